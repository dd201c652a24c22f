"""What a resumed run need not do again.

The rule. A section (a heading and its cells) with a cell tagged `step` is a step: work on the platform that is whole
once its cells have succeeded. A resumed run skips the steps from the top that succeeded with unchanged source, up to
the first that did not, and shows their earlier output. Everything else runs again: imports, parameters, the binding of
the target, and each step from the failed one on. So no later cell may read a name that a step's cell has bound.
"""

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from platformlib.errors import RunbookError
from platformlib.runbook.journal import Record, digest, read
from platformlib.runbook.notebook import sections

LATEST = "latest"


def earlier(run: str, notebook: Path, runs: Path) -> Record:
    """The run to go on from: by its id, by the path of its journal, or the latest of this notebook.

    Raises:
        RunbookError: there is none, it is another notebook's, or it came to its end.
    """
    record = _latest(notebook, runs) if run == LATEST else read(_journal(run, runs))
    if record.notebook != notebook.name:
        raise RunbookError(f"run {record.run} is of {record.notebook}, not of {notebook.name}", fix="name a run of it")
    if record.outcome == "ok":
        raise RunbookError(f"run {record.run} succeeded: nothing to resume", fix="leave out --resume to run it again")
    return record


def _latest(notebook: Path, runs: Path) -> Record:
    journals = sorted(runs.glob(f"*-{notebook.stem}.jsonl"), reverse=True)
    if not journals:
        raise RunbookError(f"no earlier run of {notebook.name} in {runs}/", fix="leave out --resume")
    return read(journals[0])


def _journal(run: str, runs: Path) -> Path:
    path = Path(run).with_suffix(".jsonl")
    return path if path.is_file() else runs / path.name


def same_parameters(record: Record, values: Mapping[str, Any]) -> None:
    """A step that was done with other parameters is not done.

    Raises:
        RunbookError: the parameters differ; names those that do.
    """
    if record.hash == digest(values):
        return
    keys = record.parameters.keys() | values.keys()
    differ = sorted(key for key in keys if digest(record.parameters.get(key)) != digest(values.get(key)))
    fix = "leave the parameters out to take those of that run, or leave out --resume"
    raise RunbookError(f"run {record.run} had other parameters: {', '.join(differ)}", fix=fix)


def skippable(notebook: Any, record: Record) -> set[str]:
    """The ids of the cells that need not run again."""
    steps = [section.code for section in sections(notebook) if section.is_step]
    done = takewhile(lambda cells: all(record.done.get(cell.id) == digest(cell.source) for cell in cells), steps)
    return {cell.id for cells in done for cell in cells}
