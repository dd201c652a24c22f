"""A notebook file: where it is, what it holds, which heading a cell stands under."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from platformlib.errors import ParameterError, RunbookError

PACKAGED = Path(__file__).parents[2] / "notebooks"


def find(name: str | Path) -> Path:
    """The notebook at a path, or of a bare name such as `install` or `metrics` (for `20-metrics.ipynb`).

    Raises:
        ParameterError: there is none; names near ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    if found := next(_named(path), None):
        return found
    near = get_close_matches(path.stem, _bare_names(), n=3, cutoff=0.5) or sorted(_bare_names())
    raise ParameterError(f"no notebook {str(name)!r}", fix=f"one of: {', '.join(near)}" if near else "give its path")


def _folders() -> list[Path]:
    return list(dict.fromkeys([Path("notebooks"), PACKAGED]))


def _named(path: Path) -> Iterator[Path]:
    for folder in _folders():
        for pattern in (path.name, f"{path.name}.ipynb", f"[0-9]*-{path.name}.ipynb"):
            yield from (file for file in sorted(folder.glob(pattern)) if file.is_file())


def _bare_names() -> list[str]:
    return sorted({file.stem.lstrip("0123456789-") for folder in _folders() for file in folder.glob("*.ipynb")})


def read(path: Path) -> Any:
    """The notebook as an nbformat node.

    Raises:
        RunbookError: unreadable, or not a notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise RunbookError(f"{path}: {error.strerror or error}", fix="give a readable notebook file") from None
    except Exception as error:  # nbformat raises many kinds, all of which mean this one thing
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise RunbookError(f"{path} is not a notebook: {reason}", fix="open it in JupyterLab and save it") from None


def tags(cell: Any) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def is_code(cell: Any) -> bool:
    """True for a cell that has something to execute."""
    return bool(cell.cell_type == "code" and cell.source.strip())


@dataclass(frozen=True)
class Section:
    """A heading and the cells up to the next heading."""

    heading: str
    cells: tuple[Any, ...]

    @property
    def code(self) -> list[Any]:
        """The code cells."""
        return [cell for cell in self.cells if is_code(cell)]

    @property
    def is_step(self) -> bool:
        """True when a cell of it is tagged `step`: work that a resumed run need not do again."""
        return any("step" in tags(cell) for cell in self.code)


def sections(notebook: Any) -> list[Section]:
    """The sections in order; cells before the first heading form one without a heading."""
    found: list[tuple[str, list[Any]]] = [("", [])]
    for cell in notebook.cells:
        if heading := _heading(cell):
            found.append((heading, []))
        found[-1][1].append(cell)
    return [Section(heading, tuple(cells)) for heading, cells in found if cells]


def _heading(cell: Any) -> str:
    lines = cell.source.splitlines() if cell.cell_type == "markdown" else []
    return next((line.lstrip("#").strip() for line in lines if line.startswith("#")), "")


def headings(notebook: Any) -> list[str]:
    """For each cell, the heading it belongs to."""
    return [section.heading for section in sections(notebook) for _ in section.cells]
