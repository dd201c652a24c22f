"""The page of what was proven: kept across runs, honest about what did not run, stale once its room has changed."""

from pathlib import Path

import pytest

from tests import proof
from tests.proof import Part, Proof, Recorder, Row

CLAIM = "a | b holds"


def recorder(pytestconfig: pytest.Config, **outcomes: str) -> Recorder:
    made = Recorder(pytestconfig)
    made.claims = {f"tests/unit/test_x.py::{name}": [(CLAIM, "lab")] for name in outcomes}
    made.outcomes = {f"tests/unit/test_x.py::{name}": state for name, state in outcomes.items()}
    return made


def test_the_page_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = Row(CLAIM, "lab", "proven", "2026-11-24", "abc1234", "tests/lab/test_lab.py::TestX::test_nothing_is_left")
    part = Part("lab", "passed", "2026-11-24", "abc1234", "3.5", "20", "0", "1")
    page = Proof({row.claim: row}, {part.part: part})
    page.write(tmp_path / "proof.md")
    text = (tmp_path / "proof.md").read_text()
    assert Proof.read(tmp_path / "proof.md") == page
    assert '<a id="nothing-is-left"></a>a \\| b holds' in text
    assert "- part `unit`" in text
    assert "- part `lab`" not in text


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ({"one": "proven", "two": "proven"}, "proven"),
        ({"one": "proven", "two": "failed"}, "failed"),
        ({"one": "not run: no root", "two": "proven"}, "not run: no root"),
        ({"one": "failed", "two": "not run: no root"}, "failed"),
    ],
)
def test_a_claim_of_several_tests_holds_if_all_hold(
    pytestconfig: pytest.Config, outcomes: dict[str, str], state: str
) -> None:
    page = Proof()
    recorder(pytestconfig, **outcomes).note(page, "2026-11-24", "abc1234")
    assert page.rows[CLAIM].state == state
    assert (page.rows[CLAIM].commit != "") == (state in ("proven", "failed"))


def test_a_run_that_skips_a_claim_does_not_forget_what_was_proven(pytestconfig: pytest.Config) -> None:
    page = Proof()
    recorder(pytestconfig, one="proven").note(page, "2026-11-24", "abc1234")
    recorder(pytestconfig, one="not run: no root").note(page, "2026-12-24", "def5678")
    assert (page.rows[CLAIM].state, page.rows[CLAIM].commit) == ("proven", "abc1234")


def test_a_row_is_stale_once_its_room_or_its_test_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def git(*arguments: str) -> str:
        asked.append(arguments)
        return "fff0002\nfff0001"

    monkeypatch.setattr(proof, "git", git)
    row = Row(CLAIM, "lab", "proven", "2026-11-24", "abc1234+", "tests/lab/test_lab.py::test_x")
    assert proof.stale(row) == ", stale since fff0001"
    assert asked == [
        ("log", "--format=%h", "abc1234..HEAD", "--", str(proof.ROOT / "platformlib/lab"), "tests/lab/test_lab.py")
    ]


def test_parts_are_suites_and_the_modules_of_the_lab_in_their_order() -> None:
    parts = proof.parts()
    assert parts[:4] == ["unit", "api", "servers", "notebooks"]
    assert parts.index("lab") < parts.index("platform") < parts.index("kill") < parts.index("host")
    assert {proof.part_of(path) for path in (proof.ROOT / "tests").glob("*/test_*.py")} == set(parts)
