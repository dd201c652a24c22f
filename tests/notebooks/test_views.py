"""The views on a cluster without metrics and logs: everything is shown, in words where there is nothing.

Their objects are those that a real API server gave (recorded/10-cluster). No kernel is started. What judges stands
last, and is not asked here: it would wait for what never comes.
"""

import ast
from collections.abc import Iterator
from typing import Any

import nbformat
import pandas as pd
import pytest

from platformlib.errors import PlatformError
from platformlib.plots.tables import table
from platformlib.runbook.notebook import is_code, tags
from tests.notebooks.apiserver import OWNED, Tape, serving
from tests.notebooks.record import RECORDED, ROOT, platform

VIEWS = ("10-cluster", "20-metrics", "30-logs", "50-storage", "60-applications")


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A platform whose API server plays what a real one said."""
    folder = tmp_path_factory.mktemp("view")
    with (
        serving(Tape.load(RECORDED / "10-cluster" / "api.zst"), owned=OWNED) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PLATFORMLIB_STATE", str(folder))
        yield platform(url, folder)


def shown(notebook: Any, platform: dict[str, Any]) -> dict[str, Any]:
    """Cell id → what the cell shows, or the error that it ends with."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    found: dict[str, Any] = {}
    for cell in filter(is_code, notebook.cells):
        if "check" in tags(cell):
            continue
        try:
            found[cell.id] = _run(cell.source, namespace)
        except PlatformError as error:
            found[cell.id] = error
        if "parameters" in tags(cell):
            namespace["platform"] = platform
    return found


def _run(source: str, namespace: dict[str, Any]) -> Any:
    *before, last = ast.parse(source).body
    exec(compile(ast.Module(before, []), "cell", "exec"), namespace)  # noqa: S102  the notebook's own code
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)  # noqa: S307
    exec(compile(ast.Module([last], []), "cell", "exec"), namespace)  # noqa: S102
    return None


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shows_everything(name: str, parameters: dict[str, Any]) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    found = shown(notebook, parameters)
    assert {cell: str(value) for cell, value in found.items() if isinstance(value, PlatformError)} == {}
    assert len(found) > 6
    assert [cell for cell, value in found.items() if cell not in {"parameters", "bind"} and not said(value)] == []


def said(value: Any) -> str:
    """What a person sees of a value."""
    return table(value) if isinstance(value, pd.DataFrame) else str(value._repr_mimebundle_()["text/plain"])


def test_a_wrong_parameter_ends_a_view_at_its_first_step(parameters: dict[str, Any]) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "20-metrics.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in tags(cell))
    cell.source = cell.source.replace('"1h"', '"yesterday"')
    assert "window: 'yesterday' (str) — expected a duration" in str(shown_until_bind(notebook, parameters))


def shown_until_bind(notebook: Any, platform: dict[str, Any]) -> Any:
    notebook.cells = [cell for cell in notebook.cells if cell.get("id") in {"parameters", "bind"}]
    return shown(notebook, platform)["bind"]
