"""Pictures: every kind of every size draws, names what it leaves out, and says in words when there is nothing."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformlib.errors import QueryError
from platformlib.plots import Picture, Table, plot, summary
from platformlib.plots.canvas import LEFT, WIDTH
from platformlib.plots.draw import PICTURES
from platformlib.plots.grids import matrix
from platformlib.plots.overtime import counted, ordered, thinned
from platformlib.plots.reduce import names, reduced
from platformlib.plots.style import LEVELS, PALETTE, SEVERITIES, Looks
from platformlib.plots.units import formatted, scale, ticks

TIMES = pd.date_range("2026-11-23T12:00", periods=60, freq="15s", tz="UTC", name="time")
HOSTILE = "</text><script>alert(1)</script>'\"$%{}`\\u202e"


def wide(count: int, picture: str = "series", unit: str = "bytes", label: str = "pod") -> pd.DataFrame:
    """`count` series, the k-th of height k."""
    columns = pd.Index([str(k) for k in range(count)], name="le" if picture == "buckets" else label)
    frame = pd.DataFrame(np.tile(np.arange(count, dtype=float), (len(TIMES), 1)), TIMES, columns)
    frame.attrs |= {"picture": picture, "unit": unit, "title": "A $title_with$ %s", "window": (TIMES[0], TIMES[-1])}
    return frame


def drawn(made: Picture | Table) -> Picture:
    assert isinstance(made, Picture)
    return made


def words(made: Picture | Table) -> str:
    """What stands in the picture."""
    return " | ".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawn(made).svg))


def layers(spec: Any) -> list[Any]:
    """Every layer of a picture, however deep."""
    return [inner for layer in spec.get("layer", []) for inner in [layer, *layers(layer)]]


EVENTS = pd.DataFrame(
    {"kind": "Pod", "namespace": [f"n{k % 20}" for k in range(60)], "object": "o", "what": "w", "severity": "error"},
    TIMES,
)
LINES = pd.DataFrame({"line": "text", "detected_level": ["error", "info", ""] * 20}, TIMES)
SIZES = [(name, count) for name in sorted(PICTURES) for count in (1, 5000)]


@pytest.mark.parametrize(("picture", "count"), [one for one in SIZES if one[0] != "lanes" and one != ("levels", 5000)])
def test_every_picture_draws_one_to_thousands_of_series(picture: str, count: int) -> None:
    made = drawn(plot(wide(count, picture)))
    assert made.svg.count("<path") + made.svg.count("<line") > 5
    assert "A $title_with$ %s" in words(made)
    if count == 5000 and picture != "buckets":
        assert "others (49" in words(made)
    assert len(json.dumps(made.spec)) < 300_000
    assert len(made.svg) < 500_000


def test_events_and_lines_draw() -> None:
    lanes = plot(EVENTS, "Events", picture="lanes")
    assert "Pod n3" in words(lanes)
    assert "others (6)" in words(lanes)
    assert "error 60" in words(lanes)
    assert "unknown" in words(plot(LINES, picture="levels"))


@pytest.mark.parametrize("picture", sorted(PICTURES))
def test_nothing_is_said_in_words(picture: str) -> None:
    empty = wide(0, picture)
    empty.attrs["empty"] = "nobody was there"
    expected = "No data from 2026-11-23 12:00:00 to 2026-11-23 12:14:45 UTC. That is normal when nobody was there."
    bundle = drawn(plot(empty))._repr_mimebundle_()
    assert expected in bundle["text/html"]
    assert expected in bundle["text/plain"]
    assert "No data" in words(plot(wide(3, picture) * np.nan))


@pytest.mark.parametrize(
    "values", [[np.nan, 5, np.nan], [np.inf, 1, 2], [0, 0, 0], [-5, -1, 3], [1e300, 0, 1], [7, 7, 7]]
)
@pytest.mark.parametrize("picture", ["series", "area", "heat", "bar"])
def test_strange_values_draw(values: list[float], picture: str) -> None:
    made = drawn(plot(pd.DataFrame({"a": values}, TIMES[:3]), "x", picture=picture))
    assert "NaN" not in made.svg
    assert "Infinity" not in json.dumps(made.spec, allow_nan=False)


def test_a_gap_is_not_drawn_over() -> None:
    frame = wide(1) + 1
    frame.iloc[20:40] = np.nan
    (line,) = re.findall(rf'<path[^>]*d="([^"]*)"[^>]*stroke="(?:{"|".join(PALETTE)})"', drawn(plot(frame)).svg)
    assert line.count("M") == 2


def test_a_lone_sample_is_a_dot() -> None:
    frame = wide(1) + 1
    frame.iloc[:30] = np.nan
    frame.iloc[31:] = np.nan
    dots = [layer for layer in layers(drawn(plot(frame)).spec) if layer.get("mark", {}).get("size") == 14]
    assert [row["v"] for row in dots[0]["data"]["values"]] == [1.0]


def test_times_are_utc_and_every_tick_has_its_unit() -> None:
    said = words(plot(wide(3, unit="ratio")))
    assert "UTC" in said
    assert "2026-11-23 12:00 to 12:14 UTC" in said
    assert "200 %" in said
    assert "ratio" not in said
    assert " MiB" in words(plot(wide(3) * 2**20))
    assert "cores" in words(plot(wide(3, unit="cores")))


@pytest.mark.parametrize("picture", ["series", "area", "heat", "bar", "lanes"])
def test_all_pictures_have_one_left_edge_and_one_width(picture: str) -> None:
    frame = EVENTS.assign(namespace="a-namespace-with-a-long-name") if picture == "lanes" else wide(3, picture)
    made = drawn(plot(frame, picture=picture))
    assert (made.spec["padding"]["left"], made.spec["width"]) == (LEFT, WIDTH)
    assert 'width="866"' in made.svg


def test_the_list_has_last_and_largest() -> None:
    frame = wide(2, unit="cores") * 1.0
    frame.iloc[5, 1] = 9.5
    said = words(plot(frame))
    assert "last" in said
    assert "max" in said
    assert "9.5" in said


def test_incomplete_data_is_said_so() -> None:
    frame = wide(2)
    frame.attrs |= {"complete": False, "warnings": ["results truncated"]}
    assert "INCOMPLETE" in words(plot(frame))
    assert "results truncated" in words(plot(frame))


def labelled(*rows: tuple[str, str]) -> "pd.Index[Any]":
    return pd.MultiIndex.from_tuples(rows, names=["namespace", "pod"])


def test_a_lone_series_keeps_its_pod_and_shared_labels_move_to_the_subtitle() -> None:
    assert names(labelled(("shop", "web-1"))) == ["shop / web-1"]
    assert names(labelled(("shop", "web-1"), ("shop", "web-2"))) == ["web-1", "web-2"]
    assert names(labelled(("shop", "web-1"), ("bank", "web-1"))) == ["shop / web-1", "bank / web-1"]
    frame = wide(2)
    frame.columns = labelled(("shop", "web-1"), ("shop", "web-2"))
    assert "namespace shop" in words(plot(frame))


@given(st.lists(st.sampled_from([f"web-{k}" for k in range(30)]), min_size=1, max_size=12, unique=True), st.randoms())
def test_a_name_keeps_its_colour_whatever_else_is_drawn_and_in_whatever_order(called: list[str], random: Any) -> None:
    looks = Looks()
    looks.declare(["node-1", "node-2"])
    before = dict(zip(called, looks.all(called), strict=True))
    shuffled = [*called, "other"]
    random.shuffle(shuffled)
    after = dict(zip(shuffled, looks.all(shuffled), strict=True))
    assert {name: after[name] for name in called} == before
    assert len(set(before.values())) == len(before)  # as long as there are looks left, no two names share one
    other = Looks()
    other.declare(["node-1", "node-2"])
    assert other.all(["zz", "node-2"])[1] == looks.of("node-2")  # declared names look alike in every notebook


def test_one_node_has_one_colour_in_all_pictures() -> None:
    few, many = wide(2, label="node"), wide(4, picture="area", label="node")
    colour = {
        made: next(entry.color for entry in drawn(plot(frame)).view.entries if entry.name == "1")
        for made, frame in (("few", few), ("many", many))
    }
    assert colour["few"] == colour["many"]


def contrast(colour: str, ground: str) -> float:
    def light(code: str) -> float:
        parts = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((light(colour), light(ground)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["#FFFFFF", "#111111"])
def test_colours_stand_out_in_both_themes(ground: str) -> None:
    every = {*PALETTE, *SEVERITIES.values(), *(LEVELS[name] for name in ("error", "warn", "info"))}
    assert {colour: round(contrast(colour, ground), 2) for colour in every if contrast(colour, ground) < 3} == {}


def test_ink_is_the_pages_own() -> None:
    made = drawn(plot(wide(2)))
    assert "currentColor" in made.svg
    assert "#000" not in made.svg
    assert made.spec["config"]["background"] is None
    assert made.png().startswith(b"\x89PNG")


def test_several_frames_are_several_pictures_each_with_its_unit() -> None:
    made = drawn(plot([wide(2), wide(3, unit="cores")]))
    assert words(made).count("UTC") >= 4
    assert "cores" in words(made)
    with pytest.raises(QueryError, match="nothing to draw"):
        plot([])


def test_an_earlier_window_is_drawn_over_dotted() -> None:
    before = wide(2) * 3
    before.index = pd.DatetimeIndex(before.index) - pd.Timedelta(days=1)
    before.attrs["window"] = tuple(moment - pd.Timedelta(days=1) for moment in (TIMES[0], TIMES[-1]))
    made = drawn(plot(wide(2), before=before))
    assert "dotted: 1 d earlier" in words(made)
    dotted = [layer for layer in layers(made.spec) if layer.get("mark", {}).get("strokeDash") == [1, 2]]
    assert len(dotted) == 2
    with pytest.raises(QueryError, match="cores cannot be drawn over bytes"):
        plot(wide(2), before=wide(2, unit="cores"))


def test_limits_are_drawn_if_they_are_near_and_told_if_they_are_far() -> None:
    made = plot(wide(3) * 2**20, limits={"quota": 3 * 2**20, "node": 2**40})
    assert "quota 3 MiB" in words(made)
    assert "node 1 TiB (above)" in words(made)
    limits = wide(3) * 2**20 + 2**20
    assert "limit 3 MiB 2" in words(plot(wide(3) * 2**20, limits=limits))
    with pytest.raises(QueryError, match="limits in cores on a picture in bytes"):
        plot(wide(3), limits=wide(3, unit="cores"))


def test_deploys_alerts_and_kills_are_marks_with_numbers() -> None:
    killed = EVENTS.iloc[[30]].assign(what="OOMKilled", object="web-1/app")
    firing = (wide(1) + 1).iloc[10:20]
    firing.columns = pd.Index(["KubePodCrashLooping"], name="alertname")
    said = words(plot(wide(2), marks=[killed, firing, {"2026-11-23T12:03": "deploy web"}]))
    assert "1 12:02:30 KubePodCrashLooping" in said
    assert "2 12:03:00 deploy web" in said
    assert "3 12:07:30 OOMKilled web-1/app" in said


def test_the_gravest_marks_have_numbers_the_others_are_counted() -> None:
    said = words(plot(wide(2), marks=EVENTS.assign(severity=["error", *["info"] * 59])))
    assert "1 12:00:00 w o" in said
    assert "and 52 more moments" in said


def test_a_picture_says_in_words_what_it_shows() -> None:
    made = drawn(plot(wide(8, unit="cores")))
    assert made.alt.startswith("A $title_with$ %s, 2026-11-23 12:00 to 12:14 UTC. In cores. 7, last 7, at most 7;")
    assert made.alt.endswith("and 3 more.")
    assert repr(made) == made.alt
    assert made._repr_mimebundle_()["text/plain"] == made.alt
    assert 'role="img" aria-label="A $title_with$ %s, 2026' in made.svg


@pytest.mark.parametrize("picture", ["series", "area", "heat", "bar"])
def test_a_hostile_name_is_only_text(picture: str) -> None:
    frame = wide(2, picture)
    frame.columns = pd.Index([HOSTILE, "b"], name="pod")
    made = drawn(plot(frame, HOSTILE, marks={"2026-11-23T12:03": HOSTILE}))
    assert "<script" not in made.svg
    assert "onerror" not in made.svg
    expressions = [step["calculate"] for layer in layers(made.spec) for step in layer.get("transform", [])]
    assert not any("alert" in text for text in expressions)


def test_the_same_frame_gives_the_same_bytes() -> None:
    first, second = (drawn(plot(wide(5, "area"), marks=EVENTS.iloc[:3])) for _ in range(2))
    assert first.svg == second.svg
    assert first.spec == second.spec
    ids = [set(re.findall(r'id="([^"]+)"', drawn(plot(wide(count))).svg)) for count in (2, 3)]
    assert ids[0]
    assert not ids[0] & ids[1]  # two pictures on one page must not cut each other


def test_nothing_is_loaded_from_elsewhere() -> None:
    made = drawn(plot(wide(5), marks=EVENTS.iloc[:3]))
    urls = set(re.findall(r'https?://[^"\s]+', made.svg + json.dumps(made.spec)))
    assert {
        url for url in urls if not url.startswith(("http://www.w3.org/", "https://vega.github.io/schema/"))
    } == set()


def test_a_matrix_marks_what_is_wrong_by_more_than_colour() -> None:
    table = pd.DataFrame([[1, 0], [-1, 0.5]], index=["a", "b"], columns=["a", "b"])
    made = Picture(matrix(table, "Who", "rows to columns"))
    assert words(made).count("✕") == 1
    assert "b to a: not as it should be" in made.alt


def test_states_are_good_or_bad_and_a_bad_moment_is_not_averaged_away() -> None:
    ready = pd.DataFrame({"n1": [1.0] * 1000, "n2": [1.0] * 500 + [0.0] + [1.0] * 499},
                         pd.date_range(TIMES[0], periods=1000, freq="15s", name="time"))  # fmt: skip
    ready.attrs |= {"picture": "heat", "unit": "ready"}
    cells = next(layer for layer in layers(drawn(plot(ready)).spec) if layer.get("mark", {}).get("type") == "rect")
    assert sorted(row["v"] for row in cells["data"]["values"]) == [0, 1, 1, 1]


def test_long_windows_keep_their_extremes() -> None:
    times = pd.date_range(TIMES[0], periods=10_000, freq="s", name="time")
    values = pd.DataFrame({"s0": np.zeros(10_000)}, times)
    values.iloc[5_000] = 7.0
    values.iloc[7_000] = -3.0
    kept = thinned(values)
    assert len(kept) <= 700
    assert (kept["s0"].max(), kept["s0"].min()) == (7.0, -3.0)


def test_the_table_beside_a_picture() -> None:
    table = summary(wide(25))
    assert list(table.index) == [*(str(k) for k in range(24, 14, -1)), "others (15)"]
    assert list(table.loc["24"]) == [24.0] * 4


def test_others_are_never_a_single_one() -> None:
    assert reduced(wide(11)).others.shape[1] == 0
    assert reduced(wide(12)).others_name == "others (2)"


def test_an_unknown_picture_names_the_known() -> None:
    with pytest.raises(QueryError, match="area, bar"):
        plot(wide(1), picture="pie")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "bytes", "0 B"),
        (1536, "bytes", "1.5 KiB"),
        (1023.9, "bytes", "1 KiB"),
        (1010.0 * 2**20, "bytes", "1010 MiB"),
        (1024**3 * 37, "bytes", "37 GiB"),
        (2048, "bytes per second", "2 KiB/s"),
        (0.371, "ratio", "37.1 %"),
        (0.25, "seconds", "250 ms"),
        (90, "seconds", "1.5 min"),
        (0, "seconds", "0 s"),
        (12_345, "requests per second", "12.3 k/s"),
        (1.5, "cores", "1.5"),
        (float("nan"), "cores", "—"),
    ],
)
def test_units(value: float, unit: str, text: str) -> None:
    assert formatted(value, unit) == text


@given(
    st.floats(0, 1e12),
    st.floats(1e-6, 1e12),
    st.sampled_from(["bytes", "seconds", "ratio", "cores", "lines per second"]),
)
def test_ticks_lie_inside_are_few_and_differ_in_words(low: float, length: float, unit: str) -> None:
    low = 0.0 if length < low / 100 else low
    found = ticks(low, low + length, unit)
    assert len(found) <= 7
    assert all(low - length * 1e-6 <= tick <= low + length * (1 + 1e-6) for tick in found)
    if low == 0:
        told = [formatted(tick, unit) for tick in found]
        assert len(set(told)) == len(told)


def test_the_pointer_tells_values_in_one_unit() -> None:
    assert scale(3 * 2**30, "bytes") == (2**30, " GiB")
    assert scale(0.3, "ratio") == (0.01, " %")
    assert scale(0.02, "seconds") == (1e-3, " ms")
    assert scale(5000, "requests per second") == (1000, " k/s")


def test_levels_are_counted_and_ordered_by_gravity() -> None:
    counts = ordered(counted(LINES))
    assert list(counts.columns) == ["error", "info", "unknown"]
    assert counts.to_numpy().sum() == 60
    assert list(ordered(pd.DataFrame({"info": [1], "WARNING": [2], "warn": [3]})).columns) == ["warn", "info"]
