"""A notebook file: where it is, what it holds, which heading a cell stands under."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from platformlib.errors import ParameterError, RunbookError

PACKAGED = Path(__file__).parents[2] / "notebooks"
MAJOR = 4  # of the format


class Node(dict[str, Any]):
    """A mapping whose keys are attributes too, as in nbformat, which takes a second to import."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


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
    every = bare_names()
    near = get_close_matches(path.stem, every, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    fix = f"{guess}There are: {', '.join(every)}" if every else "give its path"
    raise ParameterError(f"no notebook {str(name)!r}", fix=fix)


def _folders() -> list[Path]:
    return list(dict.fromkeys([Path("notebooks"), PACKAGED]))


def _named(path: Path) -> Iterator[Path]:
    for folder in _folders():
        for pattern in (path.name, f"{path.name}.ipynb", f"[0-9]*-{path.name}.ipynb"):
            yield from (file for file in sorted(folder.glob(pattern)) if file.is_file())


def bare_names() -> list[str]:
    """The names that `find` takes."""
    return sorted({file.stem.lstrip("0123456789-") for folder in _folders() for file in folder.glob("*.ipynb")})


def read(path: Path) -> Any:
    """The notebook, with attributes for keys, and each source as one text.

    Raises:
        RunbookError: unreadable, or not a notebook.
    """
    try:
        found = json.loads(path.read_text("utf-8"), object_hook=Node)
    except OSError as error:
        raise RunbookError(f"{path}: {error.strerror or error}", fix="give a readable notebook file") from None
    except (ValueError, RecursionError) as error:
        raise _no_notebook(path, str(error)) from None
    cells = found.get("cells") if isinstance(found, Node) else None
    if not isinstance(cells, list) or found.get("nbformat") != MAJOR or not all(map(_is_cell, cells)):
        raise _no_notebook(path, f"no cells of nbformat {MAJOR}")
    for cell in cells:
        cell["source"] = "".join(cell["source"])
    return found


def _is_cell(cell: Any) -> bool:
    return isinstance(cell, Node) and "cell_type" in cell and isinstance(cell.get("source"), str | list) and (
        isinstance(cell.get("metadata"), Node)
    )  # fmt: skip


def _no_notebook(path: Path, reason: str) -> RunbookError:
    return RunbookError(f"{path} is not a notebook: {reason}", fix="open it in JupyterLab and save it")


def tags(cell: Any) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def is_code(cell: Any) -> bool:
    """Whether a cell has something to execute."""
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
        """Whether a cell of it is tagged `step`: work that a resumed run need not do again."""
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
