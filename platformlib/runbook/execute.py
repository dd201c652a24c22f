"""One run of a notebook: checked before, told while, written after."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformlib.errors import ParameterError, RunbookError, RunInterrupted
from platformlib.runbook import notebook as notebooks
from platformlib.runbook.declared import Parameter, declared
from platformlib.runbook.events import Event, Listener
from platformlib.runbook.given import from_files
from platformlib.runbook.journal import Journal, Record, digest
from platformlib.runbook.parameters import checked
from platformlib.runbook.resume import LATEST, digests, latest, named, same_parameters, skippable

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """A run that came to its end."""

    id: str
    notebook: Path
    output: Path
    journal: Path
    seconds: float
    skipped: int
    """Cells that an earlier run had done."""
    resumed: str | None = None
    """That run."""


def run(
    notebook: str | Path,
    *,
    files: Iterable[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    resume: str | None = None,
    dry_run: bool = False,
    on_event: Listener | None = None,
    runs: Path = RUNS,
) -> Run:
    """Run a notebook from its path or bare name; nothing starts unless every parameter is right.

    Args:
        files: parameters files, deep-merged, the later over the earlier.
        parameters: single parameters over the files; `platform.cluster.distribution` names a nested key.
        output: the executed notebook; default `runs/<UTC>-<name>.ipynb`. It is written on failure too.
        resume: an earlier run's id, or `latest` for the latest with the same parameters: its completed steps are not
            done again.
        dry_run: for notebooks that take the parameter `dry_run`.
        on_event: is called as cells start, speak and end.
        runs: folder of executed notebooks and journals.

    Raises:
        ParameterError: refused before a kernel started; lists every fault.
        RunInterrupted: by Ctrl-C or SIGTERM; says how to continue.
        RunbookError: a cell failed; names it, its source and its error.
    """
    path = notebooks.find(notebook)
    source = notebooks.read(path)
    takes = declared(source, name=path.name)
    single = {**(parameters or {}), **_dry(takes, dry_run, path)}
    values, before = _values(takes, from_files(files), single, path, resume=resume, runs=runs)
    journal = _journal(runs, path)
    result = Path(output) if output else journal.path.with_suffix(".ipynb")
    root = before.root if before else journal.path.stem
    journal.open(notebook=path.name, output=str(result.absolute()), parameters=values, hash=digest(values), root=root,
                 resumes=before.run if before else None)  # fmt: skip
    skip = _skip(source, before, values)
    work = _Work(path, result, values, skip, digests(source, values), root, _listeners(journal, on_event))
    seconds = _ended(journal, work)
    return Run(journal.path.stem, path, result, journal.path, seconds, len(skip), before.run if before else None)


def _dry(takes: Mapping[str, Parameter], wanted: bool, path: Path) -> dict[str, Any]:
    if wanted and "dry_run" not in takes:
        raise ParameterError(f"{path.name} has no parameter `dry_run`", fix="leave out --dry-run")
    return {"dry_run": True} if wanted else {}


def _values(
    takes: Mapping[str, Parameter],
    given: Mapping[str, Any],
    single: Mapping[str, Any],
    path: Path,
    *,
    resume: str | None,
    runs: Path,
) -> tuple[dict[str, Any], Record | None]:
    """The values to inject, and the run to go on from: a named one lends its parameters if none are given."""
    before = named(resume, path, runs) if resume not in {None, LATEST} else None
    if before and not given and not single:
        given = before.parameters
    values = checked(takes, given, single, near=path.parent, source=path.name)
    if before:
        same_parameters(before, values)
    return values, latest(path, values, runs) if resume == LATEST else before


def _journal(runs: Path, path: Path) -> Journal:
    """A journal under a name of its own, even for two runs in one second."""
    runs.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{stamp}{suffix}-{path.stem}.jsonl" for suffix in ("", *(f".{n}" for n in range(1, 1000))))
    file = next(runs / name for name in names if not (runs / name).exists())
    file.touch(mode=0o600, exist_ok=False)
    return Journal(file)


def _skip(source: Any, before: Record | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Cell id → the executed cell whose output is shown instead; an error of that run is none of this one."""
    if before is None:
        return {}
    wanted = skippable(source, before, values)
    cells = notebooks.read(before.output).cells if before.output.is_file() else []
    found = {cell.get("id"): cell for cell in [*source.cells, *cells] if cell.get("id") in wanted}
    for cell in found.values():
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("output_type") != "error"]
    return found


def _listeners(journal: Journal, on_event: Listener | None) -> tuple[Listener, ...]:
    def keep(event: Event) -> None:
        if event.kind != "output":
            journal.write("cell", cell=event.cell, digest=event.digest, heading=event.heading, outcome=event.kind,
                          seconds=round(event.seconds, 3))  # fmt: skip

    return (keep, on_event) if on_event else (keep,)


@dataclass(frozen=True)
class _Work:
    """What papermill is called with."""

    path: Path
    output: Path
    values: Mapping[str, Any]
    skip: Mapping[str, Any]
    digests: Mapping[str, str]
    root: str
    listeners: tuple[Listener, ...]


def _ended(journal: Journal, work: _Work) -> float:
    """Do the work; whatever happens, the journal has an end."""
    start, outcome = time.monotonic(), "interrupted"
    try:
        _execute(work, journal.path.stem)
        outcome = "ok"
    except RunInterrupted:
        raise
    except RunbookError:
        outcome = "failed"
        raise
    finally:
        seconds = time.monotonic() - start
        journal.write("end", outcome=outcome, seconds=round(seconds, 3))
    return seconds


def _execute(work: _Work, run: str) -> None:
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from platformlib.runbook.engine import NAME, Stopped, Watch
    from platformlib.runbook.failure import as_error

    work.output.parent.mkdir(parents=True, exist_ok=True)
    skip = {name: nbformat.from_dict(cell) for name, cell in work.skip.items()}
    watch = Watch(work.listeners, skip, work.digests, work.root)
    options: dict[str, Any] = {"engine_name": NAME, "progress_bar": False, "watch": watch}
    ended: Callable[[], RunInterrupted] = lambda: RunInterrupted(run, work.path.stem)  # noqa: E731
    try:
        papermill.execute_notebook(work.path, work.output, dict(work.values), **options)
    except PapermillExecutionError as error:
        raise ended() if watch.interrupted else as_error(error, work.output) from None
    except (Stopped, KeyboardInterrupt):
        raise ended() from None
    except DeadKernelError:
        if watch.interrupted:
            raise ended() from None
        fix = "memory may have run out: see `dmesg`; then run again with --resume"
        said = f"{work.path.name}: the kernel died; what it had done is in {work.output}"
        raise RunbookError(said, fix=fix) from None
    finally:
        _trust(work.output)


def _trust(path: Path) -> None:
    """Sign what was run here, so that JupyterLab shows its tables and pictures as it does those of its own runs."""
    import nbformat
    from nbformat.sign import NotebookNotary

    if path.is_file():
        NotebookNotary().sign(nbformat.read(path, as_version=4))
