"""The running cell: what is shown while it runs, what stays, and what is printed where no JupyterLab is."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from platformlib.checks import Check
from platformlib.plots import live
from platformlib.plots.live import Live, Paces, Printed, folded, running, watch


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed."""
    found: list[Any] = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


@pytest.fixture
def watching(tmp_path: Path, shown: list[Any]) -> Iterator[Live]:
    made = Live(None, Paces(tmp_path / "paces.json"))
    yield made
    made.end(SimpleNamespace(success=True))


def cell(source: str) -> Any:
    return SimpleNamespace(raw_cell=source)


def test_lines_of_many_threads_are_shown_in_place_and_fold_when_the_cell_ends(watching: Live, shown: list[Any]) -> None:
    watching.begin(cell("apply()"))
    threads = [threading.Thread(target=watching.say, args=(f"object {n}",)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (box,) = shown
    assert box.children[1].value.count("object ") == live.SHOWN
    watching.end(SimpleNamespace(success=True))
    assert box.comm is None  # no widget stays behind
    final = shown[1].data
    assert final.startswith("<details")
    assert sorted(re.findall(r"^(?:.*<pre>)?(object \d+)", final, re.MULTILINE)) == sorted(
        f"object {n}" for n in range(40)
    )


def test_a_silent_cell_says_that_it_lives_and_how_long_it_usually_takes(
    watching: Live, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SOON", 0.05)
    watching._paces.keep("verify()", 33.0)
    watching.begin(cell("verify()"))
    deadline = time.monotonic() + 20
    while not shown and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "of about 33 s" in shown[0].children[1].value
    assert shown[0].children[0].layout.visibility == "visible"


def test_a_quick_cell_shows_nothing(watching: Live, shown: list[Any]) -> None:
    watching.begin(cell("1"))
    watching.end(SimpleNamespace(success=True))
    assert shown == []


def test_a_failed_cell_is_no_measure(tmp_path: Path, watching: Live, shown: list[Any]) -> None:
    watching.begin(cell("apply()"))
    watching.say("x")
    watching.end(SimpleNamespace(success=False))
    assert Paces(tmp_path / "paces.json").usual("apply()") == 0.0


def test_paces_are_the_middle_of_the_last_runs_and_survive_a_torn_file(tmp_path: Path) -> None:
    paces = Paces(tmp_path / "a" / "paces.json")
    for seconds in (900, 10, 20, 30, 40, 50):
        paces.keep(" apply() ", seconds)
    assert paces.usual("apply()") == 30.0
    paces.path.write_text("{", "utf-8")
    assert paces.usual("apply()") == 0.0
    paces.keep("apply()", 5)
    assert paces.usual("apply()") == 5.0


def test_what_a_cluster_says_is_only_text() -> None:
    hostile = "<script>alert(1)</script>\x1b[2J"
    for made in (running([hostile], 3, 0), folded([hostile], 3)):
        assert "<script" not in made
        assert "\x1b" not in made


def test_without_jupyterlab_whole_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(watch(), Printed)
    said = Printed()
    threads = [threading.Thread(target=said.say, args=("x" * 50,)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(capsys.readouterr().out.splitlines()) == {"x" * 50}


def test_a_check_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformlib.checks.INTERVAL", 0.01)
    answers = iter([(False, "12 of 13 up"), (False, "12 of 13 up"), (True, "13 up")])
    said: list[object] = []
    assert Check("targets", "13", "look", lambda: next(answers), patience=5).run(said.append).ok
    assert said == ["waiting for targets: 12 of 13 up", "✓ targets"]
