"""The picture that a frame asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from platformlib.errors import QueryError
from platformlib.plots import grids, overtime
from platformlib.plots.canvas import View, window_of
from platformlib.plots.marks import Asked, Limits, Moments
from platformlib.plots.picture import Picture, Pictures, Sentence
from platformlib.plots.reduce import TOP, labels_of, shared_labels
from platformlib.plots.tables import Table

Draw = Callable[[Asked], View]
PICTURES: Mapping[str, Draw] = {
    "area": overtime.area,
    "bar": grids.bars,
    "buckets": grids.buckets,
    "heat": grids.heat,
    "lanes": grids.lanes,
    "levels": overtime.levels,
    "series": overtime.series,
}
TABLE = "table"
LONGEST = 150  # letters of a subtitle
DAY = pd.Timedelta(days=1)


def plot(
    frame: pd.DataFrame | Sequence[pd.DataFrame],
    title: str | None = None,
    *,
    picture: str | None = None,
    top: int = TOP,
    before: pd.DataFrame | None = None,
    limits: Limits | None = None,
    marks: Moments | Sequence[Moments] | None = None,
) -> Picture | Table:
    """A frame as its `.attrs["picture"]` says; several frames below each other, on one time axis.

    A frame without data becomes a sentence that says so.

    Args:
        frame: what a query gave, or several of these.
        title: default: the query's.
        picture: series, area, heat, buckets, levels, lanes, bar, or table, in place of the frame's own.
        top: how many of the largest series are named; the others are counted.
        before: the same query over an earlier window, drawn dotted at the same places.
        limits: a number, numbers by name, or a frame with a limit for each series; drawn dashed.
        marks: events, alerts, or `{"2026-11-23T14:05": "deploy"}`; drawn as upright lines, listed with numbers.

    Raises:
        QueryError: no such picture; limits or an earlier window in another unit.

    Examples:
        >>> q = target.queries                                                        # doctest: +SKIP
        >>> pl.plot(q.cpu_by_node(window="1h"), before=q.cpu_by_node(window="1h", end="-24h"))  # doctest: +SKIP
        >>> pl.plot(q.memory_by_pod(namespace="shop"), limits=q.memory_limit_by_pod(namespace="shop"),
        ...         marks=q.object_history(namespace="shop"))                         # doctest: +SKIP
    """
    if not isinstance(frame, pd.DataFrame):
        return _below_each_other(list(frame), title, picture=picture, top=top, marks=marks)
    kind = picture or str(frame.attrs.get("picture") or "series")
    name = title if title is not None else str(frame.attrs.get("title") or frame.attrs.get("query") or "")[:110]
    if kind not in PICTURES and kind != TABLE:
        raise QueryError(f"no picture is named {kind!r}", fix=f"one of: {', '.join([*PICTURES, TABLE])}")
    if nothing(frame):
        return Sentence(name, sentence(frame))
    if kind == TABLE:
        return Table(frame, name)
    return Picture(PICTURES[kind](Asked(frame, name, subtitle(frame, kind), top, before, limits, marks)))


def _below_each_other(
    frames: Sequence[pd.DataFrame],
    title: str | None,
    *,
    picture: str | None,
    top: int,
    marks: Moments | Sequence[Moments] | None,
) -> Pictures:
    """Each frame in a picture of its own, so that each has its own unit."""
    if not frames:
        raise QueryError("there is nothing to draw: an empty list", fix="give one frame or several")
    made = [plot(one, None, picture=picture, top=top, marks=marks) for one in frames]
    parts = [one for one in made if isinstance(one, Picture)]
    if len(parts) < len(made):
        raise QueryError("a table cannot stand among pictures", fix="show it in a cell of its own")
    if title:
        first = parts[0].view
        parts[0].view = replace(first, title=f"{title}: {first.title}" if first.title else title)
    return Pictures(parts)


def nothing(frame: pd.DataFrame) -> bool:
    """Whether there is nothing to draw: no rows, no series, or nothing but gaps."""
    return frame.empty or bool(frame.isna().to_numpy().all())


def sentence(frame: pd.DataFrame) -> str:
    """What to say about no data: where none was found, and why that may be no fault."""
    window = " to ".join(f"{pd.Timestamp(moment):%Y-%m-%d %H:%M:%S}" for moment in frame.attrs.get("window") or ())
    where = f" from {window} UTC" if window else ""
    reason = frame.attrs.get("empty")
    return f"No data{where}." + (f" That is normal when {reason}." if reason else "")


def subtitle(frame: pd.DataFrame, kind: str = "series") -> str:
    """The window, the labels that all series share, and whatever the server warned of."""
    parts = [_window(frame)] if frame.attrs.get("window") else []
    if kind not in {"lanes", "levels"}:
        shared = shared_labels(labels_of(frame))
        parts += [f"{name} {value}" for name, value in shared.items() if value and not name.startswith("__")]
    if not frame.attrs.get("complete", True):
        parts.append("INCOMPLETE")
    return "   ·   ".join([*parts, *map(str, (frame.attrs.get("warnings") or ())[:1])])[:LONGEST]


def _window(frame: pd.DataFrame) -> str:
    first, last = window_of(frame)
    asked = frame.attrs["window"]
    if pd.Timestamp(asked[0]) == pd.Timestamp(asked[-1]):
        return f"{first:%Y-%m-%d %H:%M} UTC"
    same = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M} to {last:{'%H:%M' if same else '%Y-%m-%d %H:%M'}} UTC"
