"""Small notebooks for tests, made as a person would make them."""

from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def code(source: str, *tags: str, id: str) -> Any:
    """A code cell."""
    return new_code_cell(source, id=id, metadata={"tags": list(tags)} if tags else {})


def prose(source: str, *, id: str) -> Any:
    """A Markdown cell."""
    return new_markdown_cell(source, id=id)


def notebook(*cells: Any, metadata: dict[str, Any] | None = None) -> Any:
    """A notebook of these cells."""
    return new_notebook(cells=list(cells), metadata={"kernelspec": KERNEL, **(metadata or {})})


def save(path: Path, *cells: Any, metadata: dict[str, Any] | None = None) -> Path:
    """Write a notebook of these cells."""
    nbformat.write(notebook(*cells, metadata=metadata), path)
    return path
