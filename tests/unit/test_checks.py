"""A check can fail, says how, and hides no other."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from platformlib import checks
from platformlib.checks import Check, Found, Result, run, verify
from platformlib.components.proving import same, unwell
from platformlib.errors import CheckFailed

COLUMNS = ["check", "ok", "expected", "found", "fix"]


def check(name: str, find: Callable[[], Found], patience: float = 0) -> Check:
    return Check(name, "what should be", f"mend {name}", find, patience)


def raising() -> Found:
    raise OSError("no route to host\n    after 3 tries\n  fix: plug it in")


def test_what_holds_is_a_table_without_fixes() -> None:
    table = verify(run([check("one", lambda: (True, "all there"))]))
    assert table.to_dict("records") == [
        dict(zip(COLUMNS, ("one", True, "what should be", "all there", ""), strict=True))
    ]


def test_an_exception_is_a_finding_and_stops_no_other() -> None:
    with pytest.raises(CheckFailed) as failed:
        verify(
            run([check("broken", raising), check("fine", lambda: (True, "yes")), check("wrong", lambda: (False, "2"))])
        )
    table = failed.value.table
    assert list(table.columns) == COLUMNS
    assert list(table["ok"]) == [False, True, False]
    assert table.loc[0, "found"] == "OSError: no route to host; after 3 tries"
    assert list(table["fix"]) == ["mend broken", "", "mend wrong"]
    assert failed.value.fix == "mend broken\n       mend wrong"
    assert "2 of 3 checks do not hold" in str(failed.value)
    assert "fine" not in str(failed.value)


def test_nothing_checked_is_nothing_proven() -> None:
    with pytest.raises(CheckFailed, match="no check was made") as failed:
        verify([])
    assert list(failed.value.table.columns) == COLUMNS


def answers(*found: Found) -> Callable[[], Found]:
    left: Iterator[Found] = iter(found)
    return lambda: next(left)


def test_patience_asks_again_until_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "INTERVAL", 0.01)
    assert check("late", answers((False, "not yet"), (True, "now")), patience=5).run() == Result(
        "late", True, "what should be", "now", "mend late"
    )


def test_patience_ends_with_the_last_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "INTERVAL", 0.01)
    assert check("never", lambda: (False, "still 2 of 3"), patience=0.05).run().found == "still 2 of 3"


def test_without_patience_it_is_asked_once() -> None:
    assert check("once", answers((False, "no"))).run().found == "no"


def test_results_keep_the_order_of_the_checks() -> None:
    names = [f"check {number}" for number in range(20)]
    assert [result.check for result in run([check(name, lambda: (True, "")) for name in names])] == names


def test_a_notebook_shows_the_table_before_the_error() -> None:
    program = "from platformlib.checks import *; verify([Result('dns', False, 'an answer', 'none', 'look at CoreDNS')])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "IPython", "--colors=NoColor", "-c", program],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    shown, _, error = done.stdout.partition("CheckFailed")
    assert "expected" in shown
    assert "look at CoreDNS" in shown
    assert "1 of 1 checks do not hold" in error


@pytest.mark.parametrize(
    ("found", "ok", "words"),
    [
        (["a", "b"], True, "a, b"),
        (["b"], False, "missing: a"),
        (["a", "b", "c"], False, "unexpected: c"),
        ([], False, "missing: a, b"),
    ],
)
def test_names_are_compared_in_words(found: list[str], ok: bool, words: str) -> None:
    assert same(found, ["a", "b"]) == (ok, words)


NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def pod(phase: str = "Running", **container: Any) -> dict[str, Any]:
    return {"status": {"phase": phase, "containerStatuses": [{"name": "web", "ready": True, **container}]}}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (pod(), ""),
        (pod("Succeeded", ready=False), ""),
        (pod("Pending"), "Pending"),
        (pod("Failed"), "Failed"),
        (pod(ready=False), "web is not ready"),
        (pod(ready=False, state={"waiting": {"reason": "CrashLoopBackOff"}}), "web CrashLoopBackOff"),
        (
            pod(lastState={"terminated": {"finishedAt": "2030-01-01T11:59:50Z"}}),
            "web restarted at 2030-01-01T11:59:50Z",
        ),
        (pod(lastState={"terminated": {"finishedAt": "2030-01-01T11:00:00Z"}}), ""),
    ],
)
def test_what_ails_a_pod(state: dict[str, Any], words: str) -> None:
    assert unwell(state, NOW) == words


def counted(name: str, holds: list[bool], *, anytime: bool = True) -> Check:
    """A check that takes its answers from a list, so that what is left tells how often it was tried."""
    return Check(name, "yes", "look", lambda: (holds.pop(0), "asked"), anytime=anytime)


def test_what_was_begun_before_its_turn_is_not_tried_again() -> None:
    ahead, early, late = checks.Ahead(), [True, True], [True, True]
    parts = [counted("early", early), counted("late", late, anytime=False)]
    ahead.begin("storage", parts)
    assert [result.check for result in ahead.run("storage", parts)] == ["early", "late"]
    assert (len(early), len(late)) == (1, 1)
    ahead.run("storage", parts)  # a second verify asks for itself
    assert (early, late) == ([], [])


@pytest.mark.parametrize("dropped", [True, False])
def test_what_failed_early_or_was_overtaken_by_a_change_is_tried_in_its_turn(dropped: bool) -> None:
    ahead, holds = checks.Ahead(), [dropped, True]
    ahead.begin("storage", [counted("volume", holds)])
    if dropped:
        ahead.drop()
    assert [result.ok for result in ahead.run("storage", [counted("volume", holds)])] == [True]
    assert holds == []
