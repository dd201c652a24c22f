"""One run of a notebook: checked before, told while, written after."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformlib.errors import ParameterError, RunbookError
from platformlib.runbook import notebook as notebooks
from platformlib.runbook.declared import Parameter, declared
from platformlib.runbook.events import Event, Listener
from platformlib.runbook.failure import as_error
from platformlib.runbook.given import from_files
from platformlib.runbook.journal import Journal, Record, digest
from platformlib.runbook.parameters import checked
from platformlib.runbook.resume import LATEST, latest, named, same_parameters, skippable

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
        RunbookError: a cell failed; names it, its source and its error.
    """
    path = notebooks.find(notebook)
    source = notebooks.read(path)
    takes = declared(source, name=path.name)
    single = {**(parameters or {}), **_dry(takes, dry_run, path)}
    values, before = _values(takes, from_files(files), single, path, resume=resume, runs=runs)
    journal = _journal(runs, path)
    result = Path(output) if output else journal.path.with_suffix(".ipynb")
    journal.open(notebook=path.name, output=str(result.absolute()), parameters=values, hash=digest(values),
                 resumes=before.run if before else None)  # fmt: skip
    skip = _skip(source, before)
    seconds = _ended(journal, lambda: _execute(path, result, values, skip, _listeners(journal, on_event)))
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


def _skip(source: Any, before: Record | None) -> dict[str, Any]:
    """Cell id → the executed cell whose output is shown instead."""
    if before is None:
        return {}
    wanted = skippable(source, before)
    cells = notebooks.read(before.output).cells if before.output.is_file() else source.cells
    return {cell.id: cell for cell in [*source.cells, *cells] if cell.id in wanted}


def _listeners(journal: Journal, on_event: Listener | None) -> tuple[Listener, ...]:
    def keep(event: Event) -> None:
        if event.kind != "output":
            outcome = event.kind
            journal.write("cell", cell=event.cell, source=digest(event.source), heading=event.heading, outcome=outcome,
                          seconds=round(event.seconds, 3))  # fmt: skip

    return (keep, on_event) if on_event else (keep,)


def _ended(journal: Journal, work: Callable[[], None]) -> float:
    """Do the work; whatever happens, the journal has an end."""
    start, outcome = time.monotonic(), "interrupted"
    try:
        work()
        outcome = "ok"
    except RunbookError:
        outcome = "failed"
        raise
    finally:
        seconds = time.monotonic() - start
        journal.write("end", outcome=outcome, seconds=round(seconds, 3))
    return seconds


def _execute(
    path: Path, output: Path, values: Mapping[str, Any], skip: Mapping[str, Any], listeners: tuple[Listener, ...]
) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from platformlib.runbook.engine import NAME, Watch

    output.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch(listeners, skip)
    try:
        papermill.execute_notebook(path, output, dict(values), engine_name=NAME, progress_bar=False, watch=watch)
    except PapermillExecutionError as error:
        raise as_error(error, output) from None
    except DeadKernelError:
        fix = "memory may have run out: see `dmesg`; then run again with --resume"
        raise RunbookError(f"{path.name}: the kernel died; what it had done is in {output}", fix=fix) from None
