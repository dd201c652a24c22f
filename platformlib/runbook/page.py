"""An executed notebook as one HTML page that asks nothing of any network."""

import re
from pathlib import Path
from typing import Any

from platformlib.errors import RunbookError
from platformlib.runbook.notebook import read

# JupyterLab's own page, without what it would load from elsewhere: require.js, MathJax, mermaid and widgets.
TEMPLATE = """\
{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}
<style>
body.jp-Notebook{max-width:70em;margin:0 auto;padding:1em 2em}
.jp-InputArea-editor pre,.jp-OutputArea-output pre{white-space:pre-wrap;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){body{color-scheme:light}}
</style>
{% endblock %}
"""
OUTSIDE = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*["']?(?:https?:)?//""", re.IGNORECASE)
WIDGET = "application/vnd.jupyter.widget-view+json"


def export(notebook: str | Path, output: str | Path | None = None, *, code: bool = False) -> Path:
    """Write an executed notebook as one page: text, tables, pictures; with `code` the cells too.

    Args:
        output: default: beside the notebook, with the suffix .html.

    Raises:
        RunbookError: not a notebook, or one whose outputs would load something from elsewhere.
    """
    source = Path(notebook)
    read(source)
    page = _page(source, code=code)
    if outside := OUTSIDE.search(page):
        raise RunbookError(f"{source}: the page would load {outside[0][:80]}", fix="clear that cell's output")
    path = Path(output) if output else source.with_suffix(".html")
    path.write_text(page, "utf-8")
    return path


def _page(source: Path, *, code: bool) -> str:
    import nbformat
    from nbconvert import HTMLExporter

    found = nbformat.read(source, as_version=4)
    found.metadata.pop("widgets", None)
    for cell in found.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    exporter = HTMLExporter(raw_template=TEMPLATE, exclude_input=not code, exclude_input_prompt=True)
    exporter.exclude_output_prompt = True
    page: Any = exporter.from_notebook_node(found, resources={"metadata": {"name": _title(found) or source.stem}})[0]
    return str(page)


def _title(notebook: Any) -> str:
    """The notebook's first heading."""
    lines = (line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), "")
