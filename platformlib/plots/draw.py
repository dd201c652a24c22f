"""The picture that a frame asks for."""

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.axes import Axes

from platformlib.errors import QueryError
from platformlib.plots import bars, lanes
from platformlib.plots.heat import ROWS, buckets, heat
from platformlib.plots.lines import area, series
from platformlib.plots.logs import levels
from platformlib.plots.reduce import TOP
from platformlib.plots.style import HEIGHT, Picture, in_words
from platformlib.plots.style import picture as opened

Draw = Callable[[Axes, pd.DataFrame, str, int], None]
PICTURES: Mapping[str, Draw] = {
    "area": area,
    "bar": bars.bar,
    "buckets": buckets,
    "heat": heat,
    "lanes": lanes.lanes,
    "levels": levels,
    "series": series,
    "table": bars.table,
}


def plot(frame: pd.DataFrame, title: str | None = None, *, picture: str | None = None, top: int = TOP) -> Picture:
    """A frame as its `.attrs["picture"]`: series, area, heat, buckets, levels, lanes, bar, or table.

    The `top` largest series are named and the others counted. A frame without data becomes a sentence that says so.

    Raises:
        QueryError: no such picture.
    """
    about = frame.attrs
    kind = picture or str(about.get("picture") or "series")
    if kind not in PICTURES:
        raise QueryError(f"no picture is named {kind!r}", fix=f"one of: {', '.join(PICTURES)}")
    name = title if title is not None else str(about.get("title") or about.get("query") or "")[:110]
    if nothing(frame):
        return in_words(name, sentence(frame))
    return _drawn(frame, kind, name, top)


def _drawn(frame: pd.DataFrame, kind: str, name: str, top: int) -> Picture:

    with opened(name, subtitle(frame), height=_height(frame, kind, top)) as (made, axes):
        PICTURES[kind](axes, frame, str(frame.attrs.get("unit") or ""), top)
    return made


def nothing(frame: pd.DataFrame) -> bool:
    """Whether there is nothing to draw: no rows, no series, or nothing but gaps."""
    return frame.empty or bool(frame.isna().to_numpy().all())


def sentence(frame: pd.DataFrame) -> str:
    """What to say about no data: where none was found, and why that may be no fault."""
    window = " to ".join(f"{pd.Timestamp(moment):%Y-%m-%d %H:%M:%S}" for moment in frame.attrs.get("window") or ())
    where = f" from {window} UTC" if window else ""
    reason = frame.attrs.get("empty")
    return f"No data{where}." + (f" That is so when {reason}." if reason else "")


def subtitle(frame: pd.DataFrame) -> str:
    """The window, and whatever the server warned of."""
    window = frame.attrs.get("window") or ()
    first, last = (pd.Timestamp(window[0]), pd.Timestamp(window[-1])) if window else (None, None)
    parts = []
    if first is not None and last is not None:
        parts.append(
            f"{first:%Y-%m-%d %H:%M} UTC" if first == last else f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
        )
    if not frame.attrs.get("complete", True):
        parts.append("INCOMPLETE")
    return "   ·   ".join([*parts, *map(str, (frame.attrs.get("warnings") or ())[:1])])[:160]


def _height(frame: pd.DataFrame, kind: str, top: int) -> float:
    match kind:
        case "bar":
            return bars.height(frame, top)
        case "lanes":
            return lanes.height(frame)
        case "table":
            return bars.table_height(frame)
        case "heat" | "buckets":
            return 1.4 + 0.19 * min(max(frame.shape[1], 6), ROWS + 1)
    return HEIGHT
