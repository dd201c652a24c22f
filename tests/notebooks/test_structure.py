"""Every notebook keeps every rule; every rule can be broken."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from platformlib.layers.model import layers
from platformlib.query.catalog import named_queries
from tests.notebooks import rules
from tests.notebooks.rules import RULES, Rule
from tests.notebooks.tiny import code, notebook, prose

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
THEN = "**Expected:** yes.\n\n**If not:** look.\n\n**Next:** [20-metrics](20-metrics.ipynb)."
PARAMETERS = code(
    'platform: object = "../parameters/lab.yaml"  # what to build\nforce: bool = False  # x', "parameters", id="p"
)
OPENING = [
    prose("## Parameters\n\nWhat is meant.", id="parameters-why"),
    PARAMETERS,
    prose("## Bind\n\nName it.", id="bind-why"),
    code("import platformlib as pl\n\ntarget = pl.bind(platform)", "bind", id="bind"),
]
GOOD = notebook(
    prose("# Tiny\n\nShows how a notebook is made.\n\n**Changes:** a layer.\n\n**Needs:** a cluster.", id="about"),
    *OPENING,
    prose("## Apply\n\nBecause.", id="apply-why"),
    code("target.layer('storage').apply()", "step", id="apply"),
    prose("## Wait\n\nUntil ready.", id="wait-why"),
    code("target.layer('storage').wait(timeout=60)", "step", id="wait"),
    prose("## Verify\n\nIt holds.", id="verify-why"),
    code("target.layer('storage').verify()", "step", id="verify"),
    prose(THEN, id="then"),
    prose("## See\n\nA picture.", id="see-why"),
    code("pl.plots.lines(target.queries.run('node_cpu'))", id="see"),
    prose("## Undo\n\nNothing to undo.", id="undo-why"),
    prose("## Related\n\n[20-metrics](20-metrics.ipynb).", id="related-why"),
    metadata={"platformlib": {"kind": "runbook", "name": "tiny"}},
)
GOOD_VIEW = notebook(
    prose("# Tiny\n\nShows a thing.\n\n**Changes:** nothing; a view only reads.\n\n**Needs:** a cluster.", id="about"),
    *copy.deepcopy(OPENING),
    prose("## What is there?\n\nA picture.", id="look-why"),
    code("pl.plot(target.queries.cpu_by_node())", id="look"),
    prose("## Judge\n\nIt holds.", id="judge-why"),
    code("target.members.verify()", "check", id="judge"),
    prose(THEN, id="then"),
    prose("## Related\n\n[20-metrics](20-metrics.ipynb).", id="related-why"),
    metadata={"platformlib": {"kind": "view", "name": "tiny"}},
)


def collected() -> list[Path]:
    """The notebooks, and a failure rather than silence when there are none."""
    assert NOTEBOOKS, "no notebooks were found"
    return NOTEBOOKS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", collected(), ids=lambda path: path.stem)
def test_every_notebook_keeps(path: Path, rule: Rule) -> None:
    opened = nbformat.read(path, as_version=4)
    opened.metadata.setdefault("platformlib", {})["name"] = path.stem
    assert list(rule(opened)) == []


@pytest.mark.parametrize("path", collected(), ids=lambda path: path.stem)
def test_every_notebook_is_stored_as_jupyter_stores_it(path: Path) -> None:
    text = path.read_text("utf-8")
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert text == nbformat.writes(nbformat.reads(text, as_version=4)) + "\n"


def test_there_is_no_notebook_elsewhere() -> None:
    hidden = {"runs", "build", "dist"}
    found = {
        path
        for path in ROOT.rglob("*.ipynb")
        if not any(p in hidden or p[0] == "." for p in path.relative_to(ROOT).parts)
    }
    assert found == set(NOTEBOOKS)


@pytest.mark.parametrize("good", [GOOD, GOOD_VIEW], ids=["runbook", "view"])
def test_a_good_notebook_breaks_no_rule(good: Any) -> None:
    assert {rule.__name__: list(rule(good)) for rule in RULES} == {rule.__name__: [] for rule in RULES}


METRICS = {name for name, query in named_queries().items() if query.source == "prometheus"}
LINES = {name for name, query in named_queries().items() if query.kind == "lines"}


@pytest.mark.parametrize("layer", layers())
def test_every_layer_has_a_view_of_its_metrics_and_of_its_log_lines(layer: str) -> None:
    views = [
        found for path in NOTEBOOKS if layer in (found := nbformat.read(path, 4)).metadata.platformlib.get("layers", [])
    ]
    assert views, f"no notebook has metadata.platformlib.layers: [{layer}]"
    for view in views:
        asked = {name for _, call in rules.calls(view, ".*") for name in [rules._name(call)]}
        assert (rules.kind(view), bool(asked & METRICS), bool(asked & LINES)) == ("view", True, True), view.cells[
            0
        ].source


def source(cell: str, text: str) -> Callable[[Any], object]:
    """Break the notebook by another source of one cell."""
    return lambda nb: _cell(nb, cell).update(source=text)


def tagged(cell: str, *names: str) -> Callable[[Any], object]:
    """Break the notebook by other tags of one cell."""
    return lambda nb: _cell(nb, cell).metadata.update(tags=list(names))


def _cell(nb: Any, id: str) -> Any:
    return next(cell for cell in nb.cells if cell.id == id)


def view(spoil: Callable[[Any], object]) -> Callable[[Any], object]:
    """Break the view instead."""
    spoil.of_view = True  # type: ignore[attr-defined]
    return spoil


P = 'platform: object = "a.yaml"  # what'
BROKEN: list[tuple[Rule, Callable[[Any], object]]] = [
    (rules.opens_with_its_purpose, source("about", "# Tiny\n\nShows.\n\n**Needs:** a cluster.")),
    (rules.opens_with_its_purpose, source("about", "Tiny")),
    (rules.says_what_it_is, lambda nb: nb.metadata.pop("platformlib")),
    (rules.says_what_it_is, lambda nb: nb.metadata.platformlib.update(kind="view")),
    (rules.says_what_it_is, view(lambda nb: nb.metadata.platformlib.update(kind="runbook"))),
    (rules.a_view_only_reads, view(source("look", "target.layer('security').apply()"))),
    (rules.a_view_only_reads, view(source("look", "target.security.enforcement()"))),
    (rules.a_view_only_reads, view(tagged("look", "step"))),
    (rules.a_view_judges_last, view(source("look", "target.pods.verify(restarts=5)"))),
    (rules.has_the_skeleton, source("see-why", "## Look\n\nA picture.")),
    (rules.has_the_skeleton, source("wait-why", "Until ready.")),
    (rules.has_the_skeleton, view(source("judge-why", "It holds."))),
    (rules.says_what_to_do_next, source("then", "It is fine.")),
    (rules.says_what_to_do_next, lambda nb: nb.cells.remove(_cell(nb, "then"))),
    (rules.says_what_to_do_next, view(source("then", THEN.replace("**If not:**", "Otherwise")))),
    (rules.leads_elsewhere, source("related-why", "## Related\n\n[this](tiny.ipynb)")),
    (rules.leads_elsewhere, source("related-why", "## Related\n\n[that](nowhere.ipynb)")),
    (rules.declares_its_parameters, tagged("p")),
    (rules.declares_its_parameters, source("p", P + "\nrows = 3  # how many")),
    (rules.declares_its_parameters, source("p", P + "\nrows: int = 3")),
    (rules.declares_its_parameters, source("p", P + "\nrows: int = 'x'  # how many")),
    (rules.declares_its_parameters, source("p", P + "\nrows: int = 1 + len('x')  # how many")),
    (rules.has_safe_defaults, source("p", P + "\nforce: bool = True  # x")),
    (rules.has_safe_defaults, source("p", P + "\nconfirm: str = 'lab'  # x")),
    (rules.takes_a_platform, source("p", "rows: int = 3  # how many")),
    (rules.has_small_cells, source("apply", "\n".join(["x = 1"] * 9))),
    (rules.gives_reasons, source("apply-why", "## Apply")),
    (rules.gives_reasons, lambda nb: nb.cells.remove(_cell(nb, "wait-why"))),
    (rules.is_plain_python, source("apply", "!kubectl get pods")),
    (rules.is_plain_python, source("apply", "%matplotlib inline")),
    (rules.defines_nothing, source("apply", "def f(): ...")),
    (rules.defines_nothing, source("apply", "class C: ...")),
    (rules.runs_straight, source("apply", "while True:\n    target.apply()")),
    (rules.runs_straight, source("apply", "for layer in target.layers:\n    layer.apply()")),
    (rules.runs_straight, source("apply", "if target:\n    target.apply()")),
    (rules.runs_straight, source("apply", "try:\n    x\nexcept Exception:\n    pass")),
    (rules.verifies, source("verify", "target.kube")),
    (rules.verifies, source("see", "assert target.kube")),
    (rules.waits_with_a_deadline, source("wait", "target.layer('storage').wait()")),
    (rules.waits_with_a_deadline, source("wait", "target.loki.wait_for('x')")),
    (rules.waits_with_a_deadline, source("wait", "time.sleep(3)")),
    (rules.shows, source("see", "print(1)")),
    (rules.shows, source("see", "x = 1")),
    (rules.shows, view(source("look", "x = 1"))),
    (rules.asks_by_name, source("see", "target.prometheus.query('up')")),
    (rules.asks_by_name, source("see", "f('sum(rate(x[5m]))')")),
    (rules.asks_by_name, source("see", 'f(\'{namespace="x"} |= "y"\')')),
    (rules.is_clean, lambda nb: _cell(nb, "see").update(execution_count=3)),
    (rules.is_clean, lambda nb: nb.metadata.update(papermill={})),
    (rules.is_clean, lambda nb: _cell(nb, "see").metadata.update(scrolled=True)),
    (rules.has_stable_ids, lambda nb: _cell(nb, "see").update(id="8f3a-2b")),
    (rules.has_stable_ids, lambda nb: _cell(nb, "see").update(id="apply")),
    (rules.has_stable_ids, lambda nb: nb.metadata.kernelspec.update(name="venv")),
    (rules.has_stable_ids, lambda nb: nb.update(nbformat_minor=4)),
    (rules.draws_by_the_library, source("see", "import matplotlib.pyplot as plt\nplt.plot([1])")),
    (rules.draws_by_the_library, source("see", "from ipywidgets import interact\ninteract(f)")),
    (rules.marks_its_steps, tagged("wait")),
    (rules.marks_its_steps, tagged("bind")),
    (rules.binds_nothing_in_a_step, lambda nb: [source("apply", "x = 1")(nb), source("see", "x")(nb)]),
]


@pytest.mark.parametrize(("rule", "spoil"), BROKEN, ids=[f"{rule.__name__}-{n}" for n, (rule, _) in enumerate(BROKEN)])
def test_a_broken_notebook_is_caught(rule: Rule, spoil: Callable[[Any], object]) -> None:
    spoiled = copy.deepcopy(GOOD_VIEW if hasattr(spoil, "of_view") else GOOD)
    spoil(spoiled)
    assert list(rule(spoiled))


def test_every_rule_is_tested_on_a_broken_notebook() -> None:
    assert {rule for rule, _ in BROKEN} == set(RULES)
