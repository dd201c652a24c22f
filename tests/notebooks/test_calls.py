"""Every call of every notebook names what is there, with the arguments that it takes; no kernel is needed."""

import ast
import inspect
from pathlib import Path
from typing import Any

import nbformat
import pytest

import platformlib as pl
from platformlib.layers import Installed
from platformlib.query.catalog import named_queries
from platformlib.targets import Target
from platformlib.targets.machines import Machines, Members
from platformlib.targets.marker import Marker
from platformlib.targets.pods import Pods
from platformlib.targets.removal import Removal
from platformlib.targets.security import Security
from tests.notebooks.rules import nodes

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
QUERIES = pl.Catalog()
PARTS: dict[str, Any] = {
    "target": Target, "pl": pl, "target.pods": Pods, "target.security": Security, "target.members": Members,
    "target.cluster": Machines, "target.machines()": Machines, "target.marker": Marker, "target.removal": Removal,
    "target.layer()": Installed, "target.queries": QUERIES, "target.settings": None,
}  # fmt: skip


def chain(node: ast.expr) -> str:
    """`target.layer()` of `target.layer("storage")`; nothing of anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{chain(value)}.{attr}" if chain(value) else ""
        case ast.Call(func=func):
            return f"{chain(func)}()" if chain(func) else ""
    return ""


def wrong(call: ast.Call) -> str:
    """What is wrong with a call of one of PARTS; nothing if it could be made."""
    assert isinstance(call.func, ast.Attribute)
    owner, name = PARTS[chain(call.func.value)], call.func.attr
    keywords = {keyword.arg for keyword in call.keywords if keyword.arg}
    if owner is QUERIES:
        if name not in named_queries():
            return f"no query is named {name}"
        unknown = keywords - set(getattr(QUERIES, name).__signature__.parameters)
        return f"{name} takes no {sorted(unknown)}" if unknown else ""
    if not hasattr(owner, name):
        return f"{owner} has no {name}"
    signature = inspect.signature(getattr(owner, name))
    first = [] if owner is pl or isinstance(inspect.getattr_static(owner, name), staticmethod) else [None]
    try:
        signature.bind(*first, *call.args, **dict.fromkeys(keywords))
    except TypeError as error:
        return f"{name}: {error}"
    return ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_call_could_be_made(path: Path) -> None:
    found = nbformat.read(path, as_version=4)
    calls = [call for _, call in nodes(found, ast.Call) if isinstance(call.func, ast.Attribute)]
    known = [call for call in calls if chain(call.func.value) in PARTS]
    assert len(known) > 3
    assert [said for call in known if (said := wrong(call))] == []


BROKEN = {
    "target.pods.tabel()": "has no tabel",
    "target.pods.verify(restart=3)": "verify",
    "target.queries.cpu_by_banana()": "no query",
    "target.queries.cpu_by_node(namespace='x')": "takes no",
    "target.layer('x').wait(timout=3)": "wait",
    "pl.plot()": "plot",
}


@pytest.mark.parametrize(("source", "said"), BROKEN.items())
def test_a_call_that_could_not_be_made_is_found(source: str, said: str) -> None:
    expression = ast.parse(source, mode="eval").body
    assert isinstance(expression, ast.Call)
    assert said in wrong(expression)
