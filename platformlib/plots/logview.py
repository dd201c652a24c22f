"""Log lines as a log: monospace, whole, in the colour of their level, with local time beside UTC.

A line is what a program wrote, perhaps to deceive: markup, control characters and marks that turn the direction of
writing are shown, never obeyed.
"""

import html
from datetime import tzinfo

import pandas as pd

from platformlib.plots.overtime import LEVEL
from platformlib.plots.style import LEVELS
from platformlib.plots.tables import UNTYPESET
from platformlib.text import visible

LINES, LONGEST = 500, 4000  # lines that are shown; letters of one line
WIDEST = 8  # letters of a level
# Said in each line too: a notebook that is not trusted drops style sheets.
LINE = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid;border-color:"
SPELLED = {"warning": "warn", "err": "error", "crit": "critical", "information": "info", "": "unknown"}
WHERE = ("namespace", "pod", "container")
STYLE = """\
<style>
.pl-log{font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px);\
color:var(--jp-content-font-color1,inherit);line-height:1.45;margin:0;max-height:42em;overflow:auto}
.pl-log div{padding-left:.7em;border-left:3px solid;margin:0 0 1px;white-space:pre-wrap;overflow-wrap:anywhere}
.pl-log time,.pl-log i{opacity:.75;font-style:normal}
.pl-log p{margin:0 0 4px;opacity:.75}
</style>"""
BOX = f'{STYLE}<div class="pl-log {UNTYPESET}"'


class Log:
    """Lines of a frame with a column `line`, indexed by time."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __repr__(self) -> str:
        return as_text(self.frame)

    def _repr_html_(self) -> str:
        return as_html(self.frame)


def is_log(frame: pd.DataFrame) -> bool:
    """Whether a frame has log lines, with their times."""
    return "line" in frame.columns and isinstance(frame.index, pd.DatetimeIndex)


def as_html(frame: pd.DataFrame, *, zone: tzinfo | None = None) -> str:
    """The lines in the frame's order, each whole; `zone` is the local one unless given."""
    if frame.empty:
        why = str(frame.attrs.get("empty") or "")
        return f"{BOX}><p>no lines{f': {html.escape(why)}' if why else ''}</p></div>"
    shown = frame.head(LINES)
    local = local_times(shown, zone)
    where = places(shown)
    lines = [
        f'<div style="{LINE}{LEVELS.get(level, LEVELS["unknown"])}"><time datetime="{utc:%Y-%m-%dT%H:%M:%S.%fZ}">'
        f"{_clock(utc)}{here}</time>  <i>{html.escape(visible(level).ljust(WIDEST))}</i>  "
        f"{f'<i>{html.escape(visible(place))}</i>  ' if place else ''}{html.escape(cut(line))}</div>"
        for utc, here, level, place, line in zip(
            pd.DatetimeIndex(shown.index), local, levels_of(shown), where, shown["line"].astype("str"), strict=True
        )
    ]
    head = f"<p>{html.escape(heading(frame, shown, zone))}</p>"
    return f'{BOX} tabindex="0" role="log" aria-label="log lines">{head}{"".join(lines)}</div>'


def as_text(frame: pd.DataFrame, *, zone: tzinfo | None = None) -> str:
    """The lines for a terminal, one below the other."""
    if frame.empty:
        return "no lines"
    shown = frame.head(LINES)
    rows = zip(
        pd.DatetimeIndex(shown.index), local_times(shown, zone), levels_of(shown), places(shown),
        shown["line"].astype("str"), strict=True,
    )  # fmt: skip
    lines = [
        "  ".join(filter(None, (f"{_clock(utc)}{here}", level, visible(place), cut(line))))
        for utc, here, level, place, line in rows
    ]
    return "\n".join([heading(frame, shown, zone), *lines])


def heading(frame: pd.DataFrame, shown: pd.DataFrame, zone: tzinfo | None) -> str:
    """How many lines, of which day, and what the two times are."""
    times = pd.DatetimeIndex(shown.index)
    days = sorted({f"{day:%Y-%m-%d}" for day in times})
    left = len(frame) - len(shown)
    count = f"{len(shown)} lines" + (f" of {len(frame)}" if left else "")
    clocks = "UTC" if not any(local_times(shown, zone)) else f"UTC, then {times.tz_convert(_zone(zone))[0]:%Z}"
    return f"{count}   ·   {' to '.join(dict.fromkeys((days[0], days[-1])))}   ·   {clocks}"


def local_times(frame: pd.DataFrame, zone: tzinfo | None) -> list[str]:
    """Each time on the clock of this machine; nothing where that clock shows UTC."""
    times = pd.DatetimeIndex(frame.index)
    here = times.tz_convert(_zone(zone))
    same = all(moment.utcoffset() == pd.Timedelta(0) for moment in (here[0], here[-1]))
    return [""] * len(times) if same else [f" ({moment:%H:%M:%S})" for moment in here]


def _zone(zone: tzinfo | None) -> tzinfo:
    if zone is not None:
        return zone
    from datetime import datetime

    found = datetime.now().astimezone().tzinfo
    assert found is not None  # noqa: S101  an aware time has a zone
    return found


def levels_of(frame: pd.DataFrame) -> list[str]:
    """The level of each line, in one spelling."""
    if LEVEL not in frame.columns:
        return [""] * len(frame)
    found = frame[LEVEL].astype("str").str.lower()
    return [SPELLED.get(level, level) for level in found]


def places(frame: pd.DataFrame) -> list[str]:
    """Where each line comes from: of namespace, pod and container those that differ."""
    known = [name for name in WHERE if name in frame.columns and frame[name].nunique() > 1]
    if not known:
        return [""] * len(frame)
    return ["/".join(row) for row in frame[known].astype("str").itertuples(index=False, name=None)]


def cut(line: str) -> str:
    """A line of reasonable length, whose own line breaks cannot pretend to begin another line."""
    text = visible(line.rstrip("\n")).replace("\n", "\n    ↳ ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … and {len(text) - LONGEST} more letters"


def _clock(moment: pd.Timestamp) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
