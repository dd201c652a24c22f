"""A failed cell as an error that a person can act on."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

from platformlib.errors import CellFailed, PlatformError
from platformlib.runbook import notebook as notebooks
from platformlib.runbook.engine import ANSI


def as_error(error: Any, output: Path) -> CellFailed:
    """papermill's execution error as a `CellFailed`: the cell, its source, and its own last error."""
    where = _heading(output, error.source)
    source = indent(error.source.strip(), "    ")
    said = indent(_said(error), "  ")
    message = f"In [{error.exec_count}] of {output.name} failed{where}:\n{source}\n{said}"
    return CellFailed(message, ename=error.ename, evalue=error.evalue, output=output)


def _heading(output: Path, source: str) -> str:
    executed = notebooks.read(output)
    pairs = ((cell, section.heading) for section in notebooks.sections(executed) for cell in section.cells)
    found = next((heading for cell, heading in pairs if cell.source == source), "")
    return f", under “{found}”" if found else ""


def _said(error: Any) -> str:
    """A platform error speaks for itself; of any other, the innermost lines of its traceback are wanted too."""
    if error.ename in known():
        return f"{error.ename}: {error.evalue}"
    frames = [line for text in error.traceback[-2:] for line in ANSI.sub("", text).splitlines()][-12:]
    return "\n".join(frames) or f"{error.ename}: {error.evalue}"


def known() -> set[str]:
    """The names of all errors of this package."""
    return {kind.__name__ for kind in _tree(PlatformError)}


def _tree(kind: type[PlatformError]) -> Iterator[type[PlatformError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)
