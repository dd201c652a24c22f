"""Tables and logs: what a person reads, and what a hostile line cannot do."""

from datetime import timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformlib.plots import Log, Table
from platformlib.plots.logview import LINES, as_html, as_text, is_log
from platformlib.plots.tables import FILTERED, ROWS, plain, table

TIMES = pd.date_range("2026-11-23T12:00:00.123", periods=3, freq="15s", tz="UTC", name="time")
CHECKS = pd.DataFrame(
    {"check": ["a", "b"], "ok": [True, False], "restarts": [0, 1234], "cpu_share": [0.25, float("nan")]}
)


class Cells(HTMLParser):
    """The text of each cell, and every tag that was opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.style: dict[str, set[str]] = {}
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def test_a_table_has_words_for_truth_units_for_shares_and_no_index_numbers() -> None:
    assert Cells(table(CHECKS)).rows == [
        ["check", "ok", "restarts", "cpu share"],
        ["a", "✓ yes", "0", "25 %"],
        ["b", "✗ no", "1,234", ""],
    ]


def test_text_is_aligned_to_the_left_and_numbers_to_the_right_even_without_a_style_sheet() -> None:
    made = table(CHECKS)
    assert made.count('style="text-align:left"') == 6
    assert made.count('style="text-align:right"') == 6


def test_fix_is_shown_only_where_something_failed() -> None:
    assert "fix" not in Cells(table(CHECKS.assign(fix=["", ""]))).rows[0]
    assert "fix" in Cells(table(CHECKS.assign(fix=["", "do it"]))).rows[0]


def test_an_index_with_a_name_and_levels_of_columns_are_columns() -> None:
    frame = pd.DataFrame({("a", "x"): [1], ("a", "y"): [2]}, index=pd.Index(["n"], name="node"))
    assert Cells(table(frame)).rows == [["node", "a / x", "a / y"], ["n", "1", "2"]]
    assert Cells(table(CHECKS.iloc[::-1])).rows[1][0] == "b"  # the numbers of a sorted table are no column


def test_times_lists_and_nothing_are_words() -> None:
    frame = pd.DataFrame({"time": [TIMES[0], pd.NaT], "of": [["a", "b"], None], "x": [True, None]})
    assert Cells(table(frame)).rows[1:] == [["2026-11-23 12:00:00", "a, b", "yes"], ["", "", ""]]


def test_a_long_table_is_whole_can_be_filtered_and_says_what_it_leaves_out() -> None:
    long = pd.DataFrame({"n": range(ROWS + 5)})
    assert len(Cells(table(long)).rows) == ROWS + 1
    assert "and 5 more rows" in table(long)
    assert "data-filter" in table(long)
    assert 'data-filter=""' not in table(long.head(FILTERED))


def test_an_empty_table_says_why() -> None:
    frame = CHECKS.head(0)
    frame.attrs["empty"] = "nobody <asked>"
    assert "nothing: nobody &lt;asked&gt;" in table(frame)
    assert plain(frame) == "nothing"


def test_a_table_is_the_same_each_time_and_asks_for_nothing() -> None:
    assert table(CHECKS) == table(CHECKS.copy())
    assert "http" not in table(CHECKS)


@given(st.text(), st.text())
def test_no_text_becomes_markup_or_turns_the_writing(name: str, text: str) -> None:
    made = table(pd.DataFrame({name: [text]}), name) + as_html(pd.DataFrame({"line": [text], "pod": [name]}, TIMES[:1]))
    known = {"style", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "script", "br", "p", "time", "i"}
    assert set(Cells(made).tags) <= known
    assert made.count("<script") == 1
    assert not any(letter in made for letter in "\x1b\x00\u202e\u2066\u2028")


def test_in_a_terminal_columns_stand_below_each_other() -> None:
    assert plain(CHECKS) == "check  ok     restarts  cpu_share\na      ✓ yes  0         25 %\nb      ✗ no   1234"
    assert repr(Table(CHECKS)) == plain(CHECKS)


def lines(*texts: str, level: str = "error") -> pd.DataFrame:
    frame = pd.DataFrame({"line": list(texts), "detected_level": level, "pod": "web-1"}, TIMES[: len(texts)])
    frame.attrs["picture"] = "levels"
    return frame


def test_a_log_shows_whole_lines_with_their_level_and_milliseconds() -> None:
    long = "x" * 2000
    made = as_html(lines(long, "b"))
    assert long in made
    assert "12:00:00.123" in made
    assert "error" in made
    assert "2 lines   ·   2026-11-23   ·   UTC" in made


def test_a_log_has_local_time_beside_utc() -> None:
    zone = timezone(timedelta(hours=2), "CEST")
    assert "12:00:00.123 (14:00:00)" in as_html(lines("a"), zone=zone)
    assert "UTC, then CEST" in as_text(lines("a"), zone=zone)
    assert "(" not in as_text(lines("a"), zone=timezone.utc)  # noqa: UP017  the class has the name


def test_a_log_names_pods_only_where_they_differ() -> None:
    assert "web-1" not in as_text(lines("a", "b"))
    assert "web-2" in as_text(lines("a", "b").assign(pod=["web-1", "web-2"]))


@pytest.mark.parametrize("level", ["warning", "WARN", "warn"])
def test_spellings_of_a_level_have_one_colour(level: str) -> None:
    assert as_html(lines("a", level=level)) == as_html(lines("a", level="warn"))


def test_a_line_cannot_pretend_to_be_another() -> None:
    made = as_text(lines("ok\r12:00:00 faked\x1b[2K\nsecond"))
    assert "\\x0d12:00:00 faked\\x1b[2K\n    ↳ second" in made


def test_too_many_lines_are_counted() -> None:
    many = pd.DataFrame({"line": ["x"] * (LINES + 7)}, pd.date_range(TIMES[0], periods=LINES + 7, freq="s"))
    assert f"{LINES} lines of {LINES + 7}" in as_html(many)


def test_only_lines_with_times_are_a_log() -> None:
    assert is_log(lines("a"))
    assert not is_log(CHECKS)
    assert not is_log(lines("a").reset_index(drop=True))
    assert "no lines" in as_html(lines())
    assert repr(Log(lines("a"))) == as_text(lines("a"))


def test_a_notebook_shows_frames_as_tables_and_lines_as_a_log() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from platformlib.plots.tables import show_tables

    shell = InteractiveShell.instance()
    try:
        show_tables()
        formatter: Any = shell.display_formatter
        shown, _ = formatter.format(CHECKS)
        assert "pl-table" in shown["text/html"]
        assert shown["text/plain"] == plain(CHECKS)
        shown, _ = formatter.format(lines("a"))
        assert "pl-log" in shown["text/html"]
    finally:
        InteractiveShell.clear_instance()
