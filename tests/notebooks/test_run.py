"""The runner with real kernels; they start slowly, so few tests share them."""

import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from platformlib.errors import CellFailed, RunbookError
from platformlib.runbook import Event, run
from platformlib.runbook.journal import digest
from platformlib.runbook.progress import PATIENCE, Progress, progress
from tests.notebooks.tiny import code, notebook, prose, save

COUNT = "from pathlib import Path\nlog = Path(folder) / 'log'\nlog.open('a').write('{}')"


def cells(folder: Path, last: str) -> list[Any]:
    """Two steps and an end; each step leaves a letter in a file."""
    return [
        prose("# Tiny", id="title"),
        code(f"folder: str = {str(folder)!r}  # where\nrows: int = 1  # how many", "parameters", id="parameters"),
        code("import subprocess\nvalue = rows * 10", "bind", id="bind"),
        prose("## First", id="h1"),
        code(COUNT.format("a"), "step", id="first"),
        prose("## Second", id="h2"),
        code(COUNT.format("b"), "step", id="second"),
        code(last, id="last"),
        prose("## End", id="h3"),
        code(COUNT.format("e") + "\nprint('value', value)", id="end"),
    ]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_a_failed_run_is_written_told_and_resumed(tmp_path: Path, runs: Path) -> None:
    path = save(
        tmp_path / "tiny.ipynb",
        *cells(
            tmp_path, "from platformlib.errors import NodeError\nraise NodeError('n1', 'no answer', fix='plug it in')"
        ),
    )
    with pytest.raises(CellFailed) as failed:
        run(path, parameters={"rows": 2}, runs=runs)
    error = failed.value
    assert (error.ename, error.output.is_file()) == ("NodeError", True)
    assert "under “Second”" in str(error) and "n1: no answer" in str(error) and "plug it in" in str(error)
    assert "Traceback" not in str(error) and "site-packages" not in str(error)
    assert _cell(error.output, "last").outputs[0]["ename"] == "NodeError"

    save(path, *cells(tmp_path, "print('mended')"))
    with pytest.raises(RunbookError, match="other parameters: rows"):
        run(path, parameters={"rows": 3}, resume=error.output.stem, runs=runs)
    with pytest.raises(RunbookError, match="with these parameters"):
        run(path, resume="latest", runs=runs)
    events: list[Event] = []
    done = run(path, resume=error.output.stem, runs=runs, on_event=events.append)
    assert (tmp_path / "log").read_text() == "abbe"  # the first step was left out, the failed one done again
    assert (done.skipped, [event.cell for event in events if event.kind == "skipped"]) == (1, ["first"])
    assert "value 20" in _cell(done.output, "end").outputs[0]["text"]  # bound again, with the earlier run's parameters
    assert [event.text for event in events if event.kind == "output" and event.cell == "last"] == ["mended"]
    with pytest.raises(RunbookError, match="nothing to resume"):
        run(path, parameters={"rows": 2}, resume="latest", runs=runs)


def test_an_unforeseen_error_shows_its_cell_and_its_last_frames(tmp_path: Path, runs: Path) -> None:
    transport = "from ipykernel.connect import get_connection_info\nassert '\"ipc\"' in get_connection_info()"
    path = save(tmp_path / "odd.ipynb", *cells(tmp_path, f"{transport}\n{{}}['missing']"))
    with pytest.raises(CellFailed) as failed:
        run(path, runs=runs, output=tmp_path / "here" / "out.ipynb")
    assert failed.value.ename == "KeyError"
    assert "{}['missing']" in str(failed.value)
    assert (tmp_path / "here" / "out.ipynb").is_file()
    journal = [json.loads(line) for line in next(runs.glob("*.jsonl")).read_text("utf-8").splitlines()]
    assert (journal[0]["event"], journal[0]["hash"], journal[-1]["outcome"]) == ("run", digest({}), "failed")
    ended = {entry["cell"]: entry["outcome"] for entry in journal if entry["event"] == "cell"}
    assert ended == {"parameters": "ok", "bind": "ok", "first": "ok", "second": "ok", "last": "failed"}


def _cell(path: Path, id: str) -> Any:
    return next(cell for cell in nbformat.read(path, as_version=4).cells if cell.get("id") == id)


def test_a_killed_run_resumes_from_what_its_journal_has(tmp_path: Path) -> None:
    from platformlib.runbook.journal import Journal, read
    from platformlib.runbook.resume import resumable, skippable

    nb = notebook(*cells(tmp_path, "1"))
    journal = Journal(tmp_path / "x.jsonl")
    journal.open(notebook="tiny.ipynb", output="x.ipynb", parameters={}, hash=digest({}), resumes=None)
    journal.write("cell", cell="first", source=digest(COUNT.format("a")), outcome="ok")
    journal.write("cell", cell="second", source=digest(COUNT.format("b")), outcome="started")
    with journal.path.open("a", encoding="utf-8") as file:
        file.write('{"event": "ce')  # what a kill leaves
    record = read(journal.path)
    assert (record.outcome, skippable(nb, record)) == ("interrupted", {"first"})
    with pytest.raises(RunbookError, match="still going on"):
        resumable(record, tmp_path / "tiny.ipynb")
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    assert resumable(replace(record, pid=ended.pid), tmp_path / "tiny.ipynb")


def test_a_step_after_a_changed_one_is_done_again(tmp_path: Path) -> None:
    from platformlib.runbook.journal import Record
    from platformlib.runbook.resume import skippable

    nb = notebook(*cells(tmp_path, "1"))
    done = {cell.id: digest(cell.source) for cell in nb.cells}
    record = Record("x", tmp_path, "tiny.ipynb", {}, "", "failed", done)
    assert skippable(nb, record) == {"first", "second", "last"}
    nb.cells[4].source += "  # changed"
    assert skippable(nb, record) == set()


def event(kind: Any, text: str = "") -> Event:
    return Event(kind, "c", "x = 1", "Storage", 2, 7, seconds=1.25, text=text)


def test_progress_off_a_terminal_is_one_line_a_cell() -> None:
    stream = io.StringIO()
    with progress(stream) as listener:
        for happened in (event("started"), event("output", "3 of 3 ready [ok]"), event("ok")):
            listener(happened)
    assert stream.getvalue() == "[00:00] ✓ 2/7 Storage  1.2 s  3 of 3 ready [ok]\n"


def test_a_long_cell_says_that_it_lives() -> None:
    lines: list[str] = []
    shown = Progress(lines.append)
    shown(event("started"))
    shown(event("output", "waiting for loki-0"))
    shown.tick()
    assert lines == []
    shown.spoke -= PATIENCE
    shown.tick()
    assert [line.partition("] ")[2] for line in lines] == ["… 2/7 Storage  waiting for loki-0"]
