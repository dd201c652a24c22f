"""What a resumed run need not do again.

The rule. A section (a heading and its cells) with a cell tagged `step` is a step: work on the platform that is whole
once its cells have succeeded. A resumed run skips the steps from the top that succeeded and shows their earlier output,
as long as everything that came before is the same: all code up to the step, the effective values of the parameters, and
this package. Everything else runs again: imports, parameters, the binding of the target, and each step from the failed
one on. So no later cell may read a name that a step's cell has bound. What must be new in each run, such as a random
word, is derived from RUN, which a resumed run shares with the one that it goes on from.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from platformlib.errors import RunbookError
from platformlib.runbook.journal import Record, digest, read
from platformlib.runbook.notebook import is_code, sections

LATEST = "latest"
RUN = "PLATFORMLIB_RUN"  # in the kernel's environment: the id of the run, or of the one that it goes on from
INJECTED = "injected-parameters"


@cache
def package() -> str:
    """A digest of this package's own files: steps that other code has done are not done."""
    root, content = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.yaml")]):
        content.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def digests(notebook: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """Cell id → a digest of all code up to that cell, of the values, and of this package."""
    made, before = {}, f"{package()} {digest(values)}"
    for cell in notebook.cells:
        if is_code(cell) and INJECTED not in cell.metadata.get("tags", []):
            before = digest(f"{before} {cell.source}")
            made[str(cell.get("id", ""))] = before
    return made


def latest(notebook: Path, values: Mapping[str, Any], runs: Path) -> Record:
    """The latest run of this notebook with these parameters: another platform's run is never gone on with.

    Raises:
        RunbookError: there is none, it came to its end, or it is still going on.
    """
    journals = sorted(runs.glob(f"*-{notebook.stem}.jsonl"), reverse=True)
    found = next((record for record in readable(journals) if record.hash == digest(values)), None)
    if found is None:
        raise RunbookError(
            f"no earlier run of {notebook.name} with these parameters in {runs}/",
            fix="give the parameters of that run, or name it: --resume-from RUN",
        )
    return resumable(found, notebook)


def readable(journals: Iterable[Path]) -> Iterator[Record]:
    """The records of journals; one without its first line, of a run that was killed at once, is left out."""
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


def skippable(notebook: Any, record: Record, values: Mapping[str, Any]) -> set[str]:
    """The ids of the cells that need not run again."""
    wanted = digests(notebook, values)
    steps = [[cell.id for cell in section.code] for section in sections(notebook) if section.is_step]
    done = takewhile(lambda cells: all(record.done.get(cell) == wanted[cell] for cell in cells), steps)
    return {cell for cells in done for cell in cells}
