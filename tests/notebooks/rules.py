"""The rules that every notebook keeps, as small functions: a notebook in, a line for each violation out."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from platformlib.errors import ParameterError
from platformlib.runbook.declared import Parameter, declared
from platformlib.runbook.notebook import Section, is_code, sections, tags

Rule = Callable[[Any], Iterator[str]]
VIEW, RUNBOOK = "view", "runbook"
SKELETONS = {
    VIEW: re.compile(r"Parameters Bind( [^|]+)* Judge Related"),
    RUNBOOK: re.compile(r"Parameters Bind( Apply Wait Verify)+ See Undo Related"),
}
CHANGES = r"apply|install|join|upgrade|rollback|uninstall|claim|release|prune|remove|write|record|enforcement|coverage"
THEN = ("**Expected:** ", "**If not:** ", "**Next:** ")
LINK = re.compile(r"\]\(([\w./-]+\.ipynb)\)")
LINES = 8
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHECK = re.compile(r"\b(verify|preflight)\(|\bwait_for\(")
DATA = r"[a-z_]*quer(y|y_range|ies)|custom_query(_range)?|lines|metric_range"


def code_cells(notebook: Any) -> list[Any]:
    """All code cells, the injected parameters of a run left out."""
    return [cell for cell in notebook.cells if is_code(cell) and "injected-parameters" not in tags(cell)]


def nodes(notebook: Any, *kinds: type[ast.AST]) -> Iterator[tuple[str, Any]]:
    """Each syntax node of the given kinds, with the id of its cell."""
    for cell in code_cells(notebook):
        yield from ((cell.id, node) for node in ast.walk(_parsed(cell)) if isinstance(node, kinds))


def _parsed(cell: Any) -> ast.Module:
    try:
        return ast.parse(str(cell.source))
    except SyntaxError:
        return ast.Module([], [])


def calls(notebook: Any, pattern: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call of a function or method whose name matches."""
    for cell, node in nodes(notebook, ast.Call):
        if re.fullmatch(pattern, _name(node)):
            yield cell, node


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _parameters(notebook: Any) -> Iterable[Parameter]:
    try:
        return declared(notebook).values()
    except ParameterError:
        return []


def _titled(notebook: Any, *words: str) -> list[Section]:
    return [section for section in sections(notebook) if section.heading.split(":")[0] in words]


def opens_with_its_purpose(notebook: Any) -> Iterator[str]:
    """1: an H1, one sentence of purpose, what it changes, what it needs."""
    text = notebook.cells[0].source if notebook.cells and notebook.cells[0].cell_type == "markdown" else ""
    wanted = {"an H1": r"\A# \S", "a sentence of purpose": r"\A# [^\n]+\n\n[A-Z][^\n]+\.(\n|\Z)"}
    wanted |= {"what it changes": r"^\*\*Changes:\*\* \S", "what it needs": r"^\*\*Needs:\*\* \S"}
    yield from (f"no {what}" for what, pattern in wanted.items() if not re.search(pattern, text, re.MULTILINE))


def kind(notebook: Any) -> str:
    """What a notebook declares itself to be."""
    return str((notebook.metadata.get("platformlib") or {}).get("kind", ""))


def says_what_it_is(notebook: Any) -> Iterator[str]:
    """3: a view only reads, a runbook changes something; each says so in its metadata and in its first cell."""
    if kind(notebook) not in SKELETONS:
        yield f"metadata.platformlib.kind is {kind(notebook)!r}, neither {VIEW} nor {RUNBOOK}"
    reads = re.search(r"^\*\*Changes:\*\* nothing; a view only reads\.$", notebook.cells[0].source, re.MULTILINE)
    if bool(reads) != (kind(notebook) == VIEW):
        yield "its first cell says the opposite"


def a_view_only_reads(notebook: Any) -> Iterator[str]:
    """3: no call of a view changes anything, and none of its cells is a step."""
    if kind(notebook) == VIEW:
        yield from (f"{cell}: {_name(call)}() changes something" for cell, call in calls(notebook, CHANGES))
        yield from (f"{cell.id}: tagged `step`" for cell in code_cells(notebook) if "step" in tags(cell))


def a_view_judges_last(notebook: Any) -> Iterator[str]:
    """3: what could end a view stands after everything that it shows."""
    if kind(notebook) == VIEW:
        judging = {cell.id for section in _titled(notebook, "Judge") for cell in section.code}
        early = (cell for cell in code_cells(notebook) if CHECK.search(cell.source) and cell.id not in judging)
        yield from (f"{cell.id}: judges before all is shown" for cell in early)


def has_the_skeleton(notebook: Any) -> Iterator[str]:
    """2: one skeleton for each kind; a runbook has apply, wait and verify once for each part that it changes."""
    lines = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    found = " ".join(line[3:].split(":")[0].strip() for line in lines if line.startswith("## "))
    if not SKELETONS.get(kind(notebook), SKELETONS[RUNBOOK]).fullmatch(found):
        yield f"sections are {found or 'missing'}"


def says_what_to_do_next(notebook: Any) -> Iterator[str]:
    """5: below each check, what is expected, what to do if it is not, and where to go next."""
    judged = {cell.id for section in _titled(notebook, "Verify", "Judge") for cell in section.code}
    for cell, below in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.id in judged and CHECK.search(cell.source):
            said = below.source if below is not None and below.cell_type == "markdown" else ""
            yield from (f"{cell.id}: {part.strip('* :')!r} is missing below" for part in THEN if part not in said)


def leads_elsewhere(notebook: Any) -> Iterator[str]:
    """5: no link leads to the notebook itself; every link to another one is named by a file that is there."""
    own = str((notebook.metadata.get("platformlib") or {}).get("name", ""))
    for cell in notebook.cells:
        for link in LINK.findall(cell.source) if cell.cell_type == "markdown" else ():
            if link == f"{own}.ipynb":
                yield f"{cell.id}: a link to itself"
            elif not (NOTEBOOKS / link).is_file():
                yield f"{cell.id}: {link} is not there"


def declares_its_parameters(notebook: Any) -> Iterator[str]:
    """3: one parameters cell of literals, each with a type and a comment."""
    try:
        parameters = declared(notebook).values()
    except ParameterError as error:
        yield str(error)
        return
    yield from (f"{parameter.name} has no type" for parameter in parameters if parameter.annotation == "Any")
    yield from (f"{parameter.name} has no comment" for parameter in parameters if not parameter.comment)
    yield from (f"{parameter.name}'s default is no {parameter.annotation}" for parameter in parameters
                if not parameter.accepts(parameter.default))  # fmt: skip


def has_safe_defaults(notebook: Any) -> Iterator[str]:
    """4: nothing is confirmed, forced or switched on by default."""
    risky = re.compile(r"confirm|force|delete|really|yes")
    for parameter in _parameters(notebook):
        if parameter.default is True or (risky.search(parameter.name) and parameter.default):
            yield f"{parameter.name} is {parameter.default!r}"


def takes_a_platform(notebook: Any) -> Iterator[str]:
    """4: every notebook takes a platform: a path or a mapping, which papermill (2.7) reads no type for but `object`."""
    if {p.name: p.annotation for p in _parameters(notebook) if p.name == "platform"} != {"platform": "object"}:
        yield "no parameter `platform: object`"


def has_small_cells(notebook: Any) -> Iterator[str]:
    """5: one idea a cell, at most eight lines."""
    for cell in code_cells(notebook):
        if (count := len(cell.source.strip().splitlines())) > LINES:
            yield f"{cell.id}: {count} lines"


def gives_reasons(notebook: Any) -> Iterator[str]:
    """5: the reason stands in prose above each cell."""
    for before, cell in zip([None, *notebook.cells], notebook.cells, strict=False):
        said = before is not None and before.cell_type == "markdown" and re.sub(r"(?m)^#.*$", "", before.source).strip()
        if is_code(cell) and not said:
            yield f"{cell.id}: no reason above it"


def is_plain_python(notebook: Any) -> Iterator[str]:
    """6: no shell, no magic: what runs in JupyterLab runs anywhere."""
    for cell in code_cells(notebook):
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"{cell.id}: {error.msg}"


def defines_nothing(notebook: Any) -> Iterator[str]:
    """6: functions and classes live in the library."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    yield from (f"{cell}: {type(node).__name__}" for cell, node in nodes(notebook, *kinds))


def runs_straight(notebook: Any) -> Iterator[str]:
    """7: no loop, no branch: the library is idempotent."""
    kinds = (ast.For, ast.While, ast.If, ast.IfExp, ast.Try, ast.Match, ast.With)
    yield from (f"{cell}: {type(node).__name__}" for cell, node in nodes(notebook, *kinds))


def verifies(notebook: Any) -> Iterator[str]:
    """8: each section that judges has a check that raises; `assert` would not show its table."""
    for section in _titled(notebook, "Verify", "Judge"):
        if not any(CHECK.search(cell.source) for cell in section.code):
            yield f"{section.heading}: no verify() in it"
    yield from (f"{cell}: assert shows no table" for cell, _ in nodes(notebook, ast.Assert))


def waits_with_a_deadline(notebook: Any) -> Iterator[str]:
    """9: every wait says how long, and nothing sleeps."""
    for cell, call in calls(notebook, r"wait(_\w+)?"):
        if "timeout" not in {keyword.arg for keyword in call.keywords}:
            yield f"{cell}: {_name(call)}() has no timeout"
    yield from (f"{cell}: sleeps" for cell, _ in calls(notebook, "sleep"))


def shows(notebook: Any) -> Iterator[str]:
    """10: rich displays, never print; every section to look at ends in something to see."""
    yield from (f"{cell}: prints" for cell, _ in calls(notebook, "print|pprint"))
    for section in sections(notebook):
        looked_at = section.code and section.heading not in {"", "Parameters", "Bind"}
        if section.heading == "See" or (looked_at and kind(notebook) == VIEW):
            last = [_parsed(cell).body[-1:] for cell in section.code]
            if not last or not all(body and isinstance(body[0], ast.Expr) for body in last):
                yield f"{section.heading}: a cell in it shows nothing"


def asks_by_name(notebook: Any) -> Iterator[str]:
    """11: no PromQL or LogQL in a notebook; queries have names, units and descriptions."""
    pattern = re.compile(r"[{\[]\s*\w+\s*(=~?|!=|!~)|\b(rate|sum|count_over_time|histogram_quantile)\s*(by\s*)?\(|\|=")
    for cell, node in nodes(notebook, ast.Constant):
        if isinstance(node.value, str) and pattern.search(node.value):
            yield f"{cell}: {node.value[:40]!r} is a query"
    for cell, call in calls(notebook, DATA):
        if call.args and _source(call) in {"prometheus", "loki"}:
            yield f"{cell}: asks {_source(call)} past the named queries"


def _source(call: ast.Call) -> str:
    return str(getattr(getattr(call.func, "value", None), "attr", ""))


def is_clean(notebook: Any) -> Iterator[str]:
    """12: no outputs, no execution counts, no leftovers of a run."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            yield f"{cell.id}: has outputs or a count"
        if extra := set(cell.metadata) - {"tags"}:
            yield f"{cell.id}: metadata {sorted(extra)}"
    if extra := set(notebook.metadata) - {"kernelspec", "language_info", "platformlib"}:
        yield f"notebook metadata {sorted(extra)}"


def has_stable_ids(notebook: Any) -> Iterator[str]:
    """12: nbformat 4.5, the python3 kernel, and ids that a person gave: a journal names cells by them."""
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        yield f"nbformat {notebook.nbformat}.{notebook.nbformat_minor}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "kernel is not python3"
    ids = [cell.get("id", "") for cell in notebook.cells]
    yield from (f"id {id!r} is no name" for id in ids if not re.fullmatch(r"[a-z][a-z0-9-]*", id))
    yield from (f"id {id!r} twice" for id in set(ids) if ids.count(id) > 1)


def draws_by_the_library(notebook: Any) -> Iterator[str]:
    """13, 14: pictures and widgets are the library's, which states an empty result and has a static twin of each."""
    banned = {
        "matplotlib",
        "altair",
        "plotly",
        "seaborn",
        "ipywidgets",
        "kubernetes",
        "requests",
        "httpx",
        "subprocess",
    }
    for cell, node in nodes(notebook, ast.Import, ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (f"{cell}: imports {name}" for name in names if name.split(".")[0] in banned)


def marks_its_steps(notebook: Any) -> Iterator[str]:
    """2, 7: cells that bind are tagged `bind`; those that work, `step`, so that a resumed run can leave them out."""
    for section in _titled(notebook, "Bind"):
        yield from (f"{cell.id}: not tagged `bind`" for cell in section.code if "bind" not in tags(cell))
    for section in _titled(notebook, "Apply", "Wait", "Verify"):
        yield from (f"{cell.id}: not tagged `step`" for cell in section.code if "step" not in tags(cell))


def binds_nothing_in_a_step(notebook: Any) -> Iterator[str]:
    """7: a resumed run leaves done steps out, so no cell outside of its section reads a name that a step has bound."""
    for section in sections(notebook):
        if section.is_step:
            bound, own = _names(section.code, ast.Store), {cell.id for cell in section.code}
            others = [cell for cell in code_cells(notebook) if cell.id not in own]
            yield from (f"{name}: bound in step {section.heading!r}, read elsewhere"
                        for name in sorted(bound & _names(others, ast.Load)))  # fmt: skip


def _names(cells: Iterable[Any], context: type[ast.expr_context]) -> set[str]:
    walked = (node for cell in cells for node in ast.walk(_parsed(cell)))
    return {node.id for node in walked if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


RULES: tuple[Rule, ...] = (
    opens_with_its_purpose, says_what_it_is, a_view_only_reads, a_view_judges_last, has_the_skeleton,
    says_what_to_do_next, leads_elsewhere, declares_its_parameters, has_safe_defaults, takes_a_platform,
    has_small_cells, gives_reasons, is_plain_python, defines_nothing, runs_straight, verifies, waits_with_a_deadline,
    shows, asks_by_name, is_clean, has_stable_ids, draws_by_the_library, marks_its_steps, binds_nothing_in_a_step,
)  # fmt: skip
