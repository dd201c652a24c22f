"""The runner with real kernels; they start slowly, so few tests share them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from platformlib.errors import CellFailed, RunbookError
from platformlib.runbook import Event, export, resume, run
from platformlib.runbook.journal import Journal, Record, digest, read
from platformlib.runbook.progress import PATIENCE, Progress, progress, usual
from platformlib.runbook.resume import digests, resumable, skippable
from tests.notebooks.tiny import code, notebook, prose, save

ROOT = Path(__file__).parents[2]
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


RUN = {"folder": "/x"}


def journal_of(tmp_path: Path, nb: Any, *, outcomes: dict[str, str]) -> Record:
    """What the journal of a run says that was killed: each cell's outcome, and half a line."""
    journal = Journal(tmp_path / "x.jsonl")
    journal.open(notebook="tiny.ipynb", output="x.ipynb", parameters=RUN, hash=digest(RUN), root="x", resumes=None)
    for cell, outcome in outcomes.items():
        journal.write("cell", cell=cell, digest=digests(nb, RUN)[cell], heading="", outcome=outcome)
    with journal.path.open("a", encoding="utf-8") as file:
        file.write('{"event": "ce')
    return read(journal.path)


def test_a_killed_run_resumes_from_what_its_journal_has(tmp_path: Path) -> None:
    nb = notebook(*cells(tmp_path, "1"))
    record = journal_of(tmp_path, nb, outcomes={"first": "ok", "second": "started"})
    assert (record.outcome, skippable(nb, record, RUN)) == ("interrupted", {"first"})
    with pytest.raises(RunbookError, match="still going on"):
        resumable(record, tmp_path / "tiny.ipynb")
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    assert resumable(replace(record, pid=ended.pid), tmp_path / "tiny.ipynb")


def test_an_interrupted_cell_is_not_done(tmp_path: Path) -> None:
    nb = notebook(*cells(tmp_path, "1"))
    record = journal_of(tmp_path, nb, outcomes={"first": "interrupted", "second": "ok", "last": "ok"})
    assert skippable(nb, record, RUN) == set()


CHANGES: dict[str, tuple[str, set[str]]] = {
    "the second step": ("second", {"first"}),
    "the first step": ("first", set()),
    "the binding before all steps": ("bind", set()),
    "a parameter's default": ("parameters", set()),
    "what comes after the steps": ("end", {"first", "second", "last"}),
}


@pytest.mark.parametrize(("changed", "left"), CHANGES.values(), ids=CHANGES.keys())
def test_a_step_is_done_only_if_all_code_before_it_is_the_same(tmp_path: Path, changed: str, left: set[str]) -> None:
    nb = notebook(*cells(tmp_path, "1"))
    record = journal_of(tmp_path, nb, outcomes={"first": "ok", "second": "ok", "last": "ok"})
    next(cell for cell in nb.cells if cell.id == changed).source += "  # changed"
    assert skippable(nb, record, RUN) == left


def test_other_values_or_another_package_do_every_step_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nb = notebook(*cells(tmp_path, "1"))
    record = journal_of(tmp_path, nb, outcomes={"first": "ok", "second": "ok", "last": "ok"})
    assert skippable(nb, record, {"folder": "/y"}) == set()
    monkeypatch.setattr(resume, "package", lambda: "another")
    assert skippable(nb, record, RUN) == set()


WAITS = """import time
print('waiting', flush=True)
try:
    time.sleep(60)
finally:
    (Path(folder) / 'log').open('a').write('tidy ')
"""


def test_ctrl_c_ends_in_order_says_how_to_go_on_and_the_next_run_does(tmp_path: Path) -> None:
    save(tmp_path / "tiny.ipynb", *cells(tmp_path, WAITS))
    command = [sys.executable, "-m", "platformlib.cli", "run", "tiny.ipynb"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "log").exists() or "b" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (journal,) = (tmp_path / "runs").glob("*.jsonl")
    assert f"interrupted; continue with: platformlib run tiny --resume-from {journal.stem}" in err
    assert "Traceback" not in out + err
    assert "\x1b" not in out + err
    assert (tmp_path / "log").read_text() == "abtidy "  # the cell could put things in order
    assert "■ 3/4 Second" in out

    save(tmp_path / "tiny.ipynb", *cells(tmp_path, WAITS))  # not changed: a person may save it again
    source = (tmp_path / "tiny.ipynb").read_text("utf-8")
    (tmp_path / "tiny.ipynb").write_text(source.replace("time.sleep(60)", "time.sleep(0)"), "utf-8")
    done = run(tmp_path / "tiny.ipynb", resume=journal.stem, runs=tmp_path / "runs")
    assert done.skipped == 1
    assert (tmp_path / "log").read_text() == "abtidy btidy e"


WORD = "from platformlib.targets.marker import Marker\nword = Marker.word()\nvalue = 1"


def test_what_is_drawn_anew_in_each_run_stays_the_same_in_a_resumed_one(tmp_path: Path, runs: Path) -> None:
    made = cells(tmp_path, "1 / 0")
    made[2] = code(WORD, "bind", id="bind")
    made[4] = code("(Path(folder) / 'word').write_text(word)".replace("Path", "__import__('pathlib').Path"), "step",
                   id="first")  # fmt: skip
    path = save(tmp_path / "tiny.ipynb", *made)
    with pytest.raises(CellFailed) as failed:
        run(path, runs=runs)
    made[7] = code("assert (__import__('pathlib').Path(folder) / 'word').read_text() == word", id="last")
    save(path, *made)
    assert run(path, runs=runs, resume=failed.value.output.stem).skipped == 1


def test_papermill_alone_refuses_wrong_parameters_before_a_kernel_starts(tmp_path: Path) -> None:
    path = save(tmp_path / "tiny.ipynb", code('window: "Duration" = "1h"  # how far back', "parameters", id="p"),
                code("open('ran', 'w')", id="x"), metadata={"platformlib": {"kind": "view"}})  # fmt: skip
    command = [sys.executable, "-m", "papermill", "-p", "window", "yesterday", str(path), str(tmp_path / "out.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode != 0
    assert "window: 'yesterday' (str) — expected a duration such as 90s, 15m, 1h30m or 7d" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_run_is_trusted_by_jupyterlab_and_its_parameters_can_be_read(tmp_path: Path, runs: Path) -> None:
    from nbformat.sign import NotebookNotary

    lab = ROOT / "parameters" / "lab.yaml"
    source = code(f"platform: object = {str(lab)!r}  # what", "parameters", id="p")
    path = save(tmp_path / "tiny.ipynb", source, code("'<b>x</b>'", id="x"))
    done = run(path, runs=runs)
    executed = nbformat.read(done.output, as_version=4)
    assert NotebookNotary().check_signature(executed)
    injected = next(cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert "'name': 'lab'" in injected.source
    assert max(map(len, injected.source.splitlines())) <= 120


def event(kind: Any, text: str = "", *, number: int = 2, last: bool = True) -> Event:
    return Event(kind, "c", "d", "Storage", number, 7, last=last, seconds=1.25, text=text)


def test_progress_off_a_terminal_is_one_line_a_step() -> None:
    stream = io.StringIO()
    with progress(stream) as listener:
        for happened in (event("started", last=False), event("ok", last=False), event("started"),
                         event("output", "3 of 3 ready [ok]"), event("ok")):  # fmt: skip
            listener(happened)
    assert re.sub(r"\d\.\d s", "0.0 s", stream.getvalue()) == "[00:00] ✓ 2/7 Storage  0.0 s  3 of 3 ready [ok]\n"


def test_progress_says_how_long_a_step_usually_takes() -> None:
    lines: list[str] = []
    shown = Progress(lines.append, {"Storage": 41.0})
    shown(event("started"))
    assert "(usually 41 s)" in shown.state()
    shown(event("ok"))
    assert "(usually 41 s)" in lines[0]


def test_what_is_usual_comes_from_runs_that_succeeded(tmp_path: Path) -> None:
    for number, (seconds, outcome) in enumerate([(10, "ok"), (20, "ok"), (30, "ok"), (500, "failed")]):
        journal = Journal(tmp_path / f"2026112{number}T000000Z-tiny.jsonl")
        journal.open(notebook="tiny.ipynb", output="", parameters={}, hash="", root="", resumes=None)
        journal.write("cell", cell="a", digest="", heading="Wait", outcome="ok", seconds=seconds)
        journal.write("end", outcome=outcome)
    assert usual(tmp_path, "tiny") == {"Wait": 20.0}


def test_a_long_step_says_that_it_lives() -> None:
    lines: list[str] = []
    shown = Progress(lines.append)
    shown(event("started"))
    shown(event("output", "waiting for loki-0"))
    shown.tick()
    assert lines == []
    shown.spoke -= PATIENCE
    shown.tick()
    assert [re.sub(r"\d\.\d s", "0.0 s", line.partition("] ")[2]) for line in lines] == [
        "… 2/7 Storage  0.0 s  waiting for loki-0"
    ]


def test_an_export_is_one_page_that_asks_nobody(tmp_path: Path, runs: Path) -> None:
    show = "from IPython.display import HTML\nHTML('<p>a table</p>')"
    path = save(tmp_path / "tiny.ipynb", prose("# A title", id="t"), code("x: int = 1  # n", "parameters", id="p"),
                code(show, id="x"))  # fmt: skip
    page = export(run(path, runs=runs).output)
    content = page.read_text("utf-8")
    assert "<p>a table</p>" in content
    assert "<title>A title</title>" in content
    assert re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?[^"'#d]""", content) == []
    assert "HTML(" not in content
    assert len(content) < 3_000_000
