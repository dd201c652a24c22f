"""Tables as HTML that needs nothing else: left-aligned text, words for truth values, no index numbers.

The table is whole without any script, as on a printed page or in a notebook that is not trusted. Where scripts run, a
click on a heading sorts, and a field above a long table filters; the script is in each table, and asks for nothing.
"""

import html
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from platformlib.plots.units import formatted
from platformlib.text import visible

ROWS, FILTERED = 1000, 12  # rows that are shown; rows above which a table can be filtered
NARROW = 26  # letters of a cell that is not wrapped
LEFT, RIGHT = (
    'style="text-align:left"',
    'style="text-align:right"',
)  # said in each cell: a notebook may drop a style sheet
STYLE = """\
<style>
.pl-table{font-size:var(--jp-code-font-size,13px);color:var(--jp-content-font-color1,inherit);max-width:100%;\
overflow-x:auto;margin:0}
.pl-table table{border-collapse:collapse;margin:0;table-layout:auto;border:0}
.pl-table caption{caption-side:top;text-align:left;font-weight:bold;padding:0 0 4px;color:inherit}
.pl-table th,.pl-table td{vertical-align:top;padding:3px 14px 3px 0!important;\
white-space:normal;max-width:46em;overflow-wrap:break-word;border:0}
.pl-table th{white-space:nowrap;border-bottom:1px solid currentColor!important;font-weight:600}
.pl-table td{border-bottom:1px solid var(--jp-border-color2,#8888)!important}
.pl-table .n{font-variant-numeric:tabular-nums;white-space:nowrap}
.pl-table .w{white-space:nowrap;overflow-wrap:normal}
.pl-table .bad{font-weight:600;color:var(--jp-error-color1,#c23b3b)}
.pl-table th[data-sort]{cursor:pointer}
.pl-table th[aria-sort=ascending]::after{content:" ▲"}
.pl-table th[aria-sort=descending]::after{content:" ▼"}
.pl-table input{font:inherit;color:inherit;background:transparent;border:1px solid var(--jp-border-color1,#8888);\
padding:2px 6px;margin:0 0 6px;width:22em;max-width:100%}
.pl-table p{margin:4px 0 0;opacity:.75}
</style>"""
SCRIPT = """\
<script>(()=>{const s=document.currentScript;const box=s&&s.closest?s.closest(".pl-table"):null;
for(const b of box?[box]:document.querySelectorAll(".pl-table:not([data-live])")){
if(b.dataset.live)continue;b.dataset.live="1";const t=b.querySelector("table"),y=t.tBodies[0];if(!y)continue;
const key=(r,i)=>{const c=r.cells[i];return c.dataset.v===undefined?c.textContent:Number(c.dataset.v)};
[...t.tHead.rows[0].cells].forEach((h,i)=>{h.dataset.sort="";h.tabIndex=0;h.title="sort";
const sort=()=>{const d=h.getAttribute("aria-sort")==="ascending"?-1:1;
[...t.tHead.rows[0].cells].forEach(o=>o.removeAttribute("aria-sort"));
h.setAttribute("aria-sort",d>0?"ascending":"descending");
[...y.rows].map(r=>[key(r,i),r]).sort((p,q)=>d*(typeof p[0]==="number"&&typeof q[0]==="number"?p[0]-q[0]:
String(p[0]).localeCompare(String(q[0]),undefined,{numeric:true}))).forEach(p=>y.appendChild(p[1]))};
h.onclick=sort;h.onkeydown=e=>{if(e.key==="Enter")sort()}});
if(b.dataset.filter!==undefined){const f=document.createElement("input");f.type="search";
f.placeholder="filter "+y.rows.length+" rows";f.setAttribute("aria-label","filter rows");
f.oninput=()=>{const w=f.value.trim().toLowerCase();for(const r of y.rows){
r.hidden=!r.textContent.toLowerCase().includes(w)}};
f.onkeydown=e=>e.stopPropagation();b.insertBefore(f,t)}}})()</script>"""
GOOD_WORDS: Mapping[str, tuple[str, str]] = {
    "ok": ("✓ yes", "✗ no"), "ready": ("yes", "no"), "passed": ("✓ yes", "✗ no"), "allowed": ("yes", "no"),
}  # fmt: skip
TRUTH = ("yes", "no")
UNTYPESET = "tex2jax_ignore mathjax_ignore"  # classes: a dollar in a text is no formula
BOX = f'{STYLE}<div class="pl-table {UNTYPESET}"'
JUDGED = frozenset({"ok", "ready", "passed", "allowed"})  # columns in which a no is bad news


class Table:
    """A frame as a table for people. `.frame` is the frame itself."""

    def __init__(self, frame: pd.DataFrame, title: str = "") -> None:
        self.frame, self.title = frame, title

    def __repr__(self) -> str:
        return plain(self.frame)

    def _repr_html_(self) -> str:
        return table(self.frame, self.title)


def table(frame: pd.DataFrame, title: str = "") -> str:
    """A frame as HTML; every text of it is escaped."""
    shown, left = readable(frame).head(ROWS), len(frame) - ROWS
    caption = f"<caption>{_escaped(title)}</caption>" if title else ""
    if shown.empty:
        nothing = str(frame.attrs.get("empty") or "")
        why = f": {_escaped(nothing)}" if nothing else ""
        return f"{BOX}>{caption and f'<b>{_escaped(title)}</b>'}<p>nothing{why}</p></div>"
    cells = [_column(shown.iloc[:, place], str(name), frame) for place, name in enumerate(shown.columns)]
    heads = [_head(name, shown.iloc[:, place]) for place, name in enumerate(shown.columns)]
    head = "".join(f'<th scope="col"{kind}>{text}</th>' for text, kind in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
    more = f"<p>and {left} more rows</p>" if left > 0 else ""
    can_filter = ' data-filter=""' if len(shown) > FILTERED else ""
    whole = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"{BOX}{can_filter}>{whole}{more}{SCRIPT}</div>"


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without index numbers and without columns that say nothing; an index with a name is a column.

    A column `fix` where everything passed, and labels as columns' levels, become what a reader expects.
    """
    plain = frame.copy(deep=False)
    if plain.columns.nlevels > 1:
        plain.columns = [" / ".join(map(str, levels)) for levels in plain.columns]
    if plain.index.nlevels > 1 or plain.index.name is not None or not _counted(plain.index):
        names = [str(name or "") for name in plain.index.names]
        plain = plain.reset_index(names=names if len(names) > 1 else names[0])
    idle = [
        name for name in ("fix", "reason") if name in plain.columns and not plain[name].astype("str").str.strip().any()
    ]
    return plain.drop(columns=idle)


def _counted(index: "pd.Index[Any]") -> bool:
    """Whether the index only numbers the rows, or is what is left of such numbers."""
    return isinstance(index, pd.RangeIndex) or pd.api.types.is_integer_dtype(index.dtype)


def _head(name: object, values: "pd.Series[Any]") -> tuple[str, str]:
    return _escaped(str(name).replace("_", " ")), f' class="n" {RIGHT}' if _numeric(values) else f" {LEFT}"


def _numeric(values: "pd.Series[Any]") -> bool:
    kind = values.dtype
    return bool(pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind))


def _column(values: "pd.Series[Any]", name: str, frame: pd.DataFrame) -> list[str]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return [_truth(bool(value), name) for value in values]
    if _numeric(values):
        unit = unit_of(name, frame)
        return [_number(float(value), unit) for value in values]
    told = words_of(values)
    narrow = " w" if max((len(text) for text in told), default=0) <= NARROW else ""
    return [f'<td class="t{narrow}" {LEFT}>{_escaped(text)}</td>' for text in told]


def _truth(value: bool, name: str) -> str:
    words = GOOD_WORDS.get(name, TRUTH)
    bad = " bad" if name in JUDGED and not value else ""
    return f'<td class="w{bad}" {LEFT}>{words[0] if value else words[1]}</td>'


def _number(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return f'<td class="n" {RIGHT}>{"" if np.isnan(value) else value}</td>'
    whole = value == int(value) and abs(value) < 1e15 and not unit  # noqa: PLR2004  beyond that no float is exact
    return f'<td class="n" {RIGHT} data-v="{value:.12g}">{f"{int(value):,}" if whole else formatted(value, unit)}</td>'


def unit_of(name: str, frame: pd.DataFrame) -> str:
    """The unit of a column: of `value` the frame's; of others what their name says, as cpu_share or seconds."""
    units: Mapping[str, str] = frame.attrs.get("units") or {}
    if name in units:
        return units[name]
    if name == "value":
        return str(frame.attrs.get("unit") or "")
    return "ratio" if name.endswith("share") or name == "ratio" else "seconds" if name == "seconds" else ""


def words_of(values: "pd.Series[Any]") -> list[str]:
    """Each value as a person writes it: times in UTC, lists with commas, nothing for nothing."""
    if isinstance(values.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        times = pd.DatetimeIndex(values)
        return ["" if pd.isna(time) else f"{time:%Y-%m-%d %H:%M:%S}" for time in times]
    return [_word(value) for value in values.astype(object)]


def _word(value: object) -> str:
    match value:
        case None:
            return ""
        case bool() | np.bool_():
            return TRUTH[0] if value else TRUTH[1]
        case float() if value != value:  # noqa: PLR0124  NaN
            return ""
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(str, value))
        case _:
            return "" if value is pd.NaT or value is pd.NA else str(value)


def _escaped(text: str) -> str:
    return html.escape(visible(text)).replace("\n", "<br>")


def plain(frame: pd.DataFrame) -> str:
    """The frame in letters, for a terminal: whole, left-aligned, without index numbers."""
    shown = readable(frame)
    if shown.empty:
        return "nothing"
    columns: list[list[str]] = []
    for place, name in enumerate(shown.columns):
        values = shown.iloc[:, place]
        unit = unit_of(str(name), frame)
        told = (
            [GOOD_WORDS.get(str(name), TRUTH)[0 if value else 1] for value in values]
            if pd.api.types.is_bool_dtype(values.dtype)
            else [_figure(float(value), unit) for value in values]
            if _numeric(values)
            else words_of(values)
        )
        columns.append([str(name), *[visible(text).replace("\n", " ") for text in told]])
    widths = [max(map(len, column)) for column in columns]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    )
    return "\n".join(line.rstrip() for line in lines)


def _figure(value: float, unit: str) -> str:
    if np.isnan(value):
        return ""
    return f"{int(value)}" if np.isfinite(value) and value == int(value) and not unit else formatted(value, unit)


def show_tables() -> None:
    """Show every DataFrame of this notebook as such a table, and log lines as a log. Outside of IPython: nothing."""
    import sys

    found = sys.modules.get("IPython")
    shell = found.get_ipython() if found is not None else None
    if shell is None:
        return
    from platformlib.plots.logview import as_html, as_text, is_log

    shows: dict[str, tuple[Callable[[pd.DataFrame], str], Callable[[pd.DataFrame], str]]] = {
        "text/html": (as_html, table),
        "text/plain": (as_text, plain),
    }
    for kind, (log, rows) in shows.items():
        shell.display_formatter.formatters[kind].for_type(pd.DataFrame, _chosen(log, rows, is_log, kind))


def _chosen(
    log: Callable[[pd.DataFrame], str],
    rows: Callable[[pd.DataFrame], str],
    is_log: Callable[[pd.DataFrame], bool],
    kind: str,
) -> Callable[..., Any]:
    def shown(frame: pd.DataFrame, *printer: Any) -> str | None:
        told = log(frame) if is_log(frame) else rows(frame)
        if kind != "text/plain":
            return told
        printer[0].text(told)
        return None

    return shown
