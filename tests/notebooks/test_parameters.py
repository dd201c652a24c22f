"""What the runner refuses before a kernel starts, and what it makes of what it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given as generated
from hypothesis import strategies as st

from platformlib.errors import ParameterError, PlatformError, RunbookError
from platformlib.parameters import verify
from platformlib.runbook import run
from platformlib.runbook.declared import declared
from platformlib.runbook.given import Typed, assignments, merged, nested
from platformlib.runbook.parameters import checked
from platformlib.runbook.secrets import literal_secrets
from tests.notebooks.tiny import code, notebook, prose, save

PARAMETERS = """\
platform: object = "../parameters/lab.yaml"  # what to build
until: str = "observability"  # the last layer
rows: int = 10  # how many
window: "Duration" = "1h"  # how far back
since: "Moment | None" = None  # from when
namespace: "Namespace" = "shop"  # whose
restarts: "Count" = 5  # at most
ratio: float = 0.5  # how much
names: list[str] = []  # which
dry_run: bool = False  # change nothing
"""
LAB = Path(__file__).parents[2] / "parameters" / "lab.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with a notebook and the lab's parameters; kernels cannot start in it."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters" / "lab.yaml").write_text(LAB.read_text("utf-8"), "utf-8")
    save(tmp_path / "notebooks" / "30-tiny.ipynb", code(PARAMETERS, "parameters", id="p"), code("1 / 0", id="x"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("papermill.execute_notebook", _no_kernel)
    return tmp_path


def _no_kernel(*_: Any, **__: Any) -> None:
    raise AssertionError("a kernel would have started")


def values(folder: Path, single: dict[str, Any], *files: str) -> dict[str, Any]:
    """What would be injected into the notebook."""
    from platformlib.runbook import notebook as notebooks
    from platformlib.runbook.given import from_files

    path = notebooks.find("tiny")
    return checked(declared(notebooks.read(path)), from_files(files), single, near=path.parent, source=path.name)


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown name, with its near match": ({"untl": "storage"}, ["untl: unknown parameter", "until"]),
    "text for a number": ({"rows": "ten"}, ["rows: 'ten' (str) — expected int"]),
    "a truth value for a number": ({"rows": True}, ["rows: True (bool) — expected int"]),
    "a word for a duration": ({"window": "yesterday"}, ["window: 'yesterday' (str) — expected a duration such as 90s"]),
    "no length at all": ({"window": "0s"}, ["window: '0s'"]),
    "a word for a time": ({"since": "tomorrow"}, ["since: 'tomorrow' (str) — expected a time such as"]),
    "no name for a namespace": ({"namespace": "My Shop"}, ["namespace: 'My Shop' (str) — expected a namespace"]),
    "a pattern for a namespace": ({"namespace": ".+"}, ["namespace: '.+'"]),
    "a word for a count": ({"restarts": "many"}, ["restarts: 'many' (str) — expected a whole number, 0 or more"]),
    "less than nothing": ({"restarts": -1}, ["restarts: -1"]),
    "a number in a list of names": ({"names": ["a", 3]}, ["names", "expected list[str]"]),
    "typed text for a number": ({"rows": Typed("ten")}, ["rows: 'ten'"]),
    "an unknown key of the platform": ({"platform.clutser": {}}, ["platform.clutser: unknown key"]),
    "a broken rule of the platform": (
        {"platform.cluster.network.pods": "192.168.0.0/16"},
        ["platform.cluster.network", "does not overlap"],
    ),
    "a platform that is neither path nor mapping": ({"platform": 3}, ["platform: int"]),
    "a path that leads nowhere": ({"platform": "nowhere.yaml"}, ["nowhere.yaml: no such file"]),
    "a literal password": ({"platform.registry": {"password": "hunter22"}}, ["platform.registry.password", "env:NAME"]),
    "a token under an innocent name": ({"until": "ghp_" + "a" * 36}, ["until: a value that looks like a secret"]),
}


@pytest.mark.parametrize(("single", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_before_a_kernel_starts(folder: Path, single: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ParameterError) as refused:
        run("tiny", parameters=single)
    assert [part for part in said if part not in str(refused.value)] == []
    assert not (folder / "runs").exists()


def test_reports_all_faults_at_once(folder: Path) -> None:
    with pytest.raises(ParameterError) as refused:
        run("tiny", parameters={"untl": 1, "rows": "x", "platform.name": "No Name", "platform.cluster.version": "9"})
    assert str(refused.value).startswith("30-tiny.ipynb: 4 faults in the parameters, nothing was run")


@pytest.mark.parametrize("secret", ["AKIA" + "A" * 16, "ghp_" + "a" * 36, "https://me:hunter22@example.org/"])
@pytest.mark.parametrize("name", ["password", "platform.token", "rows", "until"])
def test_never_repeats_a_secret(folder: Path, secret: str, name: str) -> None:
    with pytest.raises(ParameterError) as refused:
        run("tiny", parameters={name: secret, "platform.lab.machine": secret})
    assert secret not in str(refused.value)


@pytest.mark.parametrize("reference", ["env:GRAFANA_PASSWORD", "file:/run/secrets/grafana", ""])
def test_a_reference_is_not_a_secret(reference: str) -> None:
    assert list(literal_secrets({"grafana": {"adminPassword": reference, "tokenless": True}})) == []


CELLS: dict[str, tuple[list[Any], str]] = {
    "no cell": ([prose("# T", id="a"), code("x: int = 1", id="b")], "no cell tagged"),
    "two cells": (
        [code("x: int = 1", "parameters", id="a"), code("y: int = 1", "parameters", id="b")],
        "2 cells tagged",
    ),
    "a call": ([code("x: str = open('f').read()", "parameters", id="a")], "cannot be read"),
    "a type that is none": ([code("x: Path = 'f'", "parameters", id="a")], "cannot be read"),
    "a statement": ([code("import os", "parameters", id="a")], "cannot be read"),
    "no Python": ([code("x: int = ", "parameters", id="a")], "cannot be read"),
    "a name that is no type": ([code("x: 'Lenght' = 'f'", "parameters", id="a")], "cannot be read"),
}


@pytest.mark.parametrize(("cells", "said"), CELLS.values(), ids=CELLS.keys())
def test_refuses_a_notebook_without_plain_parameters(cells: list[Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        declared(notebook(*cells))


FILES: dict[str, Callable[[Path], object]] = {
    "is not there": lambda path: path.unlink(missing_ok=True),
    "is no YAML": lambda path: path.write_text("{", "utf-8"),
    "is a list": lambda path: path.write_text("[1]", "utf-8"),
    "is no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("spoil", FILES.values(), ids=FILES.keys())
def test_refuses_a_parameters_file_that(folder: Path, spoil: Callable[[Path], object]) -> None:
    path = folder / "mine.yaml"
    spoil(path)
    with pytest.raises(ParameterError, match=r"mine\.yaml"):
        run("tiny", files=[path])


@pytest.mark.parametrize("content", ["{}", "not json", ""])
def test_refuses_what_is_not_a_notebook(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text(content, "utf-8")
    with pytest.raises(PlatformError, match=r"x\.ipynb"):
        run(path)


def test_an_unknown_notebook_names_the_near_one_and_all_others(folder: Path) -> None:
    with pytest.raises(ParameterError, match="did you mean tiny") as refused:
        run("tyny")
    assert "20-" not in str(refused.value)
    assert "install" in str(refused.value)


ANNOTATED: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong duration": ({"window": "yesterday", "__annotations__": {"window": "Duration"}}, "window: 'yesterday'"),
    "a wrong plain type": ({"rows": "ten", "__annotations__": {"rows": int}}, "rows: 'ten' \\(str\\) — expected int"),
    "both at once": (
        {"window": 3, "n": -1, "__annotations__": {"window": "Duration", "n": "Count"}},
        "(?s)window: 3.*n: -1",
    ),
}


@pytest.mark.parametrize(("namespace", "said"), ANNOTATED.values(), ids=ANNOTATED.keys())
def test_a_running_notebook_refuses_wrong_parameters_too(namespace: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        verify(namespace)


def test_a_namespace_without_parameters_is_no_notebook() -> None:
    verify({})
    verify({"x": 1, "__annotations__": {"x": "Somebodys", "y": "Duration"}})


def test_refuses_a_dry_run_where_there_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ipynb", code("x: int = 1", "parameters", id="p"))
    with pytest.raises(ParameterError, match="dry_run"):
        run(path, dry_run=True)


def test_a_nested_value_stands_over_the_default_file(folder: Path) -> None:
    platform = values(folder, assignments(["platform.cluster.version=v1.34.4", "rows=3"]))["platform"]
    assert platform == merged(yaml.safe_load(LAB.read_text("utf-8"))["platform"], {"cluster": {"version": "v1.34.4"}})


def test_later_files_have_the_last_word(folder: Path) -> None:
    (folder / "a.yaml").write_text("rows: 1\nuntil: storage\n", "utf-8")
    (folder / "b.yaml").write_text("rows: 2\nplatform: {lab: {internet: true}}\n", "utf-8")
    both = values(folder, {}, "parameters/lab.yaml", "a.yaml", "b.yaml")
    assert (both["rows"], both["until"], both["platform"]["lab"]["internet"]) == (2, "storage", True)
    assert both["platform"]["name"] == "lab"


TYPED = {
    "window=1h30m": "1h30m",
    "since=-2h": "-2h",
    "since=2026-11-23T14:05": "2026-11-23T14:05",
    "since=null": None,
    "restarts=0": 0,
    "until=3": "3",
    "until=2026-11-23": "2026-11-23",
    "rows=3": 3,
    "names=[a, b]": ["a", "b"],
    "dry_run=true": True,
}


@pytest.mark.parametrize(("text", "value"), TYPED.items(), ids=TYPED)
def test_a_typed_value_takes_the_declared_type(folder: Path, text: str, value: object) -> None:
    assert values(folder, assignments([text]))[text.partition("=")[0]] == value


@pytest.mark.parametrize("text", ["rows", "=3", ""])
def test_refuses_what_is_not_an_assignment(text: str) -> None:
    with pytest.raises(ParameterError, match="not an assignment"):
        assignments([text])


trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6
)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value of a tree under its whole path; an empty mapping is a value."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    return {leaf: value for key, inner in tree.items() for leaf, value in leaves(inner, (*path, key)).items()}


@generated(mappings, mappings)
def test_merging_keeps_what_is_not_named_and_the_last_wins(one: Any, two: Any) -> None:
    both, second = leaves(merged(one, two)), leaves(two)
    assert {path: both.get(path) for path, value in second.items() if value != {}} == {
        path: value for path, value in second.items() if value != {}
    }
    assert {key: merged(one, two)[key] for key in one.keys() - two.keys()} == {
        key: one[key] for key in one.keys() - two.keys()
    }
    assert merged(one, one) == one == merged({}, one) == merged(one, {})


@generated(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.integers())
def test_a_dotted_name_reaches_its_leaf(path: list[str], value: int) -> None:
    tree: Any = nested({".".join(path): value})
    for key in path:
        tree = tree[key]
    assert tree == value


def test_resume_needs_an_earlier_run(folder: Path) -> None:
    with pytest.raises(RunbookError, match="no earlier run"):
        run("tiny", resume="latest")
