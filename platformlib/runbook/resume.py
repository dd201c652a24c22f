"""What a resumed run need not do again.

The rule. A section (a heading and its cells) with a cell tagged `step` is a step: work on the platform that is whole
once its cells have succeeded. A resumed run skips the steps from the top that succeeded with unchanged source, up to
the first that did not, and shows their earlier output. Everything else runs again: imports, parameters, the binding of
the target, and each step from the failed one on. So no later cell may read a name that a step's cell has bound.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from platformlib.errors import RunbookError
from platformlib.runbook.journal import Record, digest, read
from platformlib.runbook.notebook import sections

LATEST = "latest"


def latest(notebook: Path, values: Mapping[str, Any], runs: Path) -> Record:
    """The latest run of this notebook with these parameters: another platform's run is never gone on with.

    Raises:
        RunbookError: there is none, it came to its end, or it is still going on.
    """
    journals = sorted(runs.glob(f"*-{notebook.stem}.jsonl"), reverse=True)
    found = next((record for record in _readable(journals) if record.hash == digest(values)), None)
    if found is None:
        raise RunbookError(
            f"no earlier run of {notebook.name} with these parameters in {runs}/",
            fix="give the parameters of that run, or name it: --resume-from RUN",
        )
    return resumable(found, notebook)


def _readable(journals: Iterable[Path]) -> Iterator[Record]:
    """A run that was killed before its first word has nothing to go on from."""
    for path in journals:
        with suppress(RunbookError):
            yield read(path)


def named(run: str, notebook: Path, runs: Path) -> Record:
    """A run by its id, or by the path of its journal. Raises RunbookError."""
    path = Path(run).with_suffix(".jsonl")
    return resumable(read(path if path.is_file() else runs / path.name), notebook)


def resumable(record: Record, notebook: Path) -> Record:
    """The record, if its run can be gone on with. Raises RunbookError."""
    if record.notebook != notebook.name:
        raise RunbookError(f"run {record.run} is of {record.notebook}, not of {notebook.name}", fix="name a run of it")
    if record.outcome == "ok":
        raise RunbookError(f"run {record.run} succeeded: nothing to resume", fix="leave out --resume to run it again")
    if record.alive():
        raise RunbookError(f"run {record.run} is still going on, as process {record.pid}", fix="wait for it, or end it")
    return record


def same_parameters(record: Record, values: Mapping[str, Any]) -> None:
    """A step that was done with other parameters is not done.

    Raises:
        RunbookError: the parameters differ; names those that do.
    """
    if record.hash == digest(values):
        return
    keys = record.parameters.keys() | values.keys()
    differ = sorted(key for key in keys if digest(record.parameters.get(key)) != digest(values.get(key)))
    fix = "leave the parameters out to take those of that run, or leave out --resume-from"
    raise RunbookError(f"run {record.run} had other parameters: {', '.join(differ)}", fix=fix)


def skippable(notebook: Any, record: Record) -> set[str]:
    """The ids of the cells that need not run again."""
    steps = [section.code for section in sections(notebook) if section.is_step]
    done = takewhile(lambda cells: all(record.done.get(cell.id) == digest(cell.source) for cell in cells), steps)
    return {cell.id for cells in done for cell in cells}
