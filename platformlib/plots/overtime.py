"""Values over time: lines, areas that add up, and log lines by level. A gap in the data is a gap in the picture."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from platformlib.plots.canvas import (
    Axes,
    Entry,
    Spec,
    View,
    hover,
    layer,
    moments,
    numbers,
    short,
    time_axis,
    value_axis,
    window_of,
)
from platformlib.plots.marks import Asked, Limit, drawn_marks, earlier, limits_of, marks_of
from platformlib.plots.reduce import keys, reduced, wide
from platformlib.plots.style import LEVELS, OTHERS, Look, looks
from platformlib.plots.units import formatted

POINTS = 350  # moments that a picture shows; of more, the lowest and the highest of each stretch are drawn
BINS = 120
TOLD = 5  # series that the words for a picture name
LEVEL = "detected_level"
COUNTS = frozenset({"lines", "pods", "containers", "restarts", "targets", "series"})  # units of whole numbers
Range = tuple[float, float]


def series(asked: Asked) -> View:
    """A line each of the largest series, the others as the band that they fill."""
    kept = reduced(asked.frame, asked.top)
    shown = looks.all(kept.keys)
    by_key = dict(zip(kept.keys, shown, strict=True))
    parts = numbered(kept.top, "s")
    entries = listed(kept.top, shown, asked.unit)
    if kept.others.shape[1]:
        parts = parts.assign(lo=kept.others.min(axis=1), hi=kept.others.max(axis=1))
        entries.append(Entry(kept.others_name, OTHERS, (), "", formatted(float(parts["hi"].max()), asked.unit)))
    limits = limits_of(asked, by_key, extremes(parts)[1])
    axes, reach = axes_for(asked, extremes(parts), limits)
    layers = [_line(f"s{place}", look, axes) for place, look in enumerate(shown)]
    if kept.others.shape[1]:
        band = {"x": axes.x(), "y": axes.y("lo"), "y2": {"field": "hi"}}
        layers.insert(0, layer({"type": "area", "color": OTHERS, "opacity": 0.35}, band))
    under, said = _before(asked, by_key, axes)
    fields = {f"s{place}": str(name) for place, name in enumerate(kept.top.columns)}
    more = [*under, *_dots(parts, shown, axes)]
    return finished(
        asked, axes, reach, rows_of(thinned(parts)),
        layers=layers, fields=fields, entries=[*entries, *said], limits=limits, more=more,
    )  # fmt: skip


def area(asked: Asked) -> View:
    """Shares that add up, the largest at the bottom, the others summed on top."""
    kept = reduced(asked.frame, asked.top)
    parts, shown = kept.top, looks.all(kept.keys)
    if kept.others.shape[1]:
        parts = parts.assign(**{kept.others_name: kept.others.sum(axis=1, min_count=1)})
        shown = [*shown, Look(OTHERS)]
    return _stacked(asked, thinned(parts), shown, [])


def levels(asked: Asked) -> View:
    """Lines in each stretch of time; the frame has the lines themselves, or counts by level."""
    lines = "line" in asked.frame.columns
    counts = ordered((counted(asked.frame) if lines else wide(asked.frame)).fillna(0))
    shown = [Look(LEVELS.get(str(name), OTHERS)) for name in counts.columns]
    when = moments(counts)
    width = int(np.median(np.diff(when))) if len(when) > 1 else 60_000
    # A count at a moment is of the stretch before it; lines are counted from a moment on.
    return _stacked(asked, counts, shown, [at + (width if lines else -width) for at in when])


def _stacked(asked: Asked, parts: pd.DataFrame, shown: Sequence[Look], ends: Sequence[int]) -> View:
    """Slices on top of each other, as areas, or as bars that reach to `ends`: the edge is drawn, the value is told."""
    known = parts.notna().any(axis=1)
    edges = numbered(parts.fillna(0).clip(lower=0).cumsum(axis=1).where(known, axis=0), "s")
    limits = limits_of(asked, {}, extremes(edges)[1])
    axes, reach = axes_for(asked, (0.0, extremes(edges)[1]), limits)
    rows = rows_of(edges.join(numbered(parts, "v")))
    if ends:
        rows = [{**row, "u": end} for row, end in zip(rows, ends, strict=True)]
    layers = [_slice(place, look, axes, bars=bool(ends)) for place, look in enumerate(shown)]
    fields = {f"v{place}": str(name) for place, name in reversed(list(enumerate(parts.columns)))}
    entries = listed(parts, shown, asked.unit, total=bool(ends))[::-1]
    return finished(asked, axes, reach, rows, layers=layers, fields=fields, entries=entries, limits=limits)


def _slice(place: int, look: Look, axes: Axes, *, bars: bool) -> Spec:
    up = {"y": axes.y(f"s{place}"), "y2": {"field": f"s{place - 1}"} if place else {"datum": 0}}
    if bars:
        return layer({"type": "rect", "color": look.color}, {"x": axes.x(), "x2": {"field": "u"}, **up})
    return layer({"type": "area", "color": look.color, "opacity": 0.55 if look.dash else 0.85}, {"x": axes.x(), **up})


def _line(name: str, look: Look, axes: Axes) -> Spec:
    mark = {"type": "line", "color": look.color, "strokeWidth": 1.6}
    mark |= {"strokeDash": list(look.dash)} if look.dash else {}
    return layer(mark, {"x": axes.x(), "y": axes.y(name)})


def _dots(parts: pd.DataFrame, shown: Sequence[Look], axes: Axes) -> list[Spec]:
    """A sample that has no neighbour is a dot, since a line would not show it."""
    rows, when = [], moments(parts)
    for place, look in enumerate(shown):
        known = np.concatenate([[False], parts[f"s{place}"].notna().to_numpy(), [False]])
        alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
        values = numbers(parts[f"s{place}"].to_numpy()[alone])
        rows += [{"t": when[at], "v": value, "c": look.color} for at, value in zip(alone, values, strict=True)]
    color = {"field": "c", "type": "nominal", "scale": None, "legend": None}
    encoding = {"x": axes.x(), "y": axes.y("v"), "color": color}
    return [layer({"type": "point", "filled": True, "size": 14, "opacity": 1}, encoding, rows)] if rows else []


def _before(asked: Asked, shown: Mapping[str, Look], axes: Axes) -> tuple[list[Spec], list[Entry]]:
    """The same series of an earlier window, dotted, in their own colours."""
    if asked.before is None or asked.before.empty:
        return [], []
    moved, ago = earlier(asked.before, asked.frame)
    called = keys(moved.columns)
    kept = [place for place, key in enumerate(called) if key in shown]
    rows = rows_of(thinned(numbered(moved.iloc[:, kept], "b")))
    layers = [
        layer(
            {"type": "line", "color": shown[called[place]].color, "strokeDash": [1, 2], "opacity": 0.75},
            {"x": axes.x(), "y": axes.y(f"b{number}")},
        )
        for number, place in enumerate(kept)
    ]
    group = [{"data": {"values": rows}, "layer": layers}] if layers else []
    return group, [Entry(f"dotted: {ago} earlier")]


def axes_for(asked: Asked, found: Range, limits: Sequence[Limit]) -> tuple[Axes, Range]:
    """Axes that hold all values, the limits that are near enough, and an earlier window."""
    low, high = found
    if asked.before is not None and not asked.before.empty:
        earliest = extremes(wide(asked.before))
        low, high = min(low, earliest[0]), max(high, earliest[1])
    reach = bounds(low, max([high, *(limit.highest for limit in limits)]), asked.unit)
    upright = value_axis(*reach, asked.unit, whole=asked.unit in COUNTS)
    return Axes(time_axis(*window_of(asked.frame)), upright), reach


def finished(
    asked: Asked,
    axes: Axes,
    reach: Range,
    rows: Sequence[Spec],
    *,
    layers: Sequence[Spec],
    fields: Mapping[str, str],
    entries: Sequence[Entry],
    limits: Sequence[Limit],
    more: Sequence[Spec] = (),
) -> View:
    """The view with limits, marks, and what a pointer shows."""
    pointer = hover({name: short(title) for name, title in fields.items()}, axes, reach[1], asked.unit)
    content = {"data": {"values": list(rows)}, "layer": [*layers, pointer]}
    drawn = [limit.drawn(axes) for limit in limits if not limit.far]
    marked, said = drawn_marks(marks_of(asked.marks), axes, reach[1])
    told = [*entries, *(limit.entry for limit in limits), *said]
    lone = len(told) == 1 and told[0].name == "value"
    header = ("last", "max") if any(entry.last for entry in entries) else ("", "")
    return View(
        asked.title,
        asked.subtitle,
        [axes.frame(), content, *more, *drawn, *marked],
        in_words(asked, told),
        *reach,
        entries=[Entry("", "", (), told[0].last, told[0].most)] if lone else told,
        header=header,
        unit=asked.unit,
    )


def in_words(asked: Asked, entries: Sequence[Entry]) -> str:
    """The picture for those who cannot see it: what it shows, and the numbers of its list."""
    head = ", ".join(filter(None, (asked.title, asked.subtitle))) + "."
    unit = f" In {asked.unit}." if asked.unit else ""
    told = [
        entry.name + (f", last {entry.last}" if entry.last else "") + (f", at most {entry.most}" if entry.most else "")
        for entry in entries
    ]
    rest = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
    return f"{head}{unit} {'; '.join(told[:TOLD])}{rest}."


def listed(parts: pd.DataFrame, shown: Sequence[Look], unit: str, *, total: bool = False) -> list[Entry]:
    """The list beside the picture: each series with its last and its largest value, or with its sum."""
    made = []
    for place, look in enumerate(shown):
        values = parts.iloc[:, place].dropna()
        last, most = (float(values.iloc[-1]), float(values.max())) if len(values) else (np.nan, np.nan)
        told = ("", f"{values.sum():,.0f}") if total else (formatted(last, unit), formatted(most, unit))
        made.append(Entry(str(parts.columns[place]), look.color, look.dash, *told))
    return made


def numbered(parts: pd.DataFrame, letter: str) -> pd.DataFrame:
    """Columns as s0, s1, …: no name from a cluster becomes part of an expression."""
    return parts.set_axis([f"{letter}{place}" for place in range(parts.shape[1])], axis=1)


def rows_of(parts: pd.DataFrame) -> list[Spec]:
    """A row each moment: `t` and the columns."""
    columns = {"t": moments(parts)} | {str(name): numbers(parts[name]) for name in parts.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def thinned(parts: pd.DataFrame) -> pd.DataFrame:
    """As many moments as a picture can show; the lowest and the highest value of each stretch stay."""
    if len(parts) <= 2 * POINTS:
        return parts
    stretch = np.arange(len(parts)) * POINTS // len(parts)
    grouped = parts.groupby(stretch)
    lowest, highest = grouped.min(), grouped.max()
    first = pd.DatetimeIndex(parts.index)[np.searchsorted(stretch, np.arange(POINTS))]
    half = pd.Timedelta((first[1] - first[0]) / 2)
    lowest.index, highest.index = first, first + half
    return pd.concat([lowest, highest]).sort_index()


def extremes(parts: pd.DataFrame) -> Range:
    """The lowest and highest finite value; 0 and 0 when there is none."""
    values = parts.to_numpy(np.float64)
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def bounds(low: float, high: float, unit: str) -> Range:
    """From zero, or from the lowest value when there are negative ones, with air above; never without length."""
    if high <= 0 <= low:
        return 0.0, 0.01 if unit == "ratio" else 1.0
    return min(0.0, low * 1.08), max(0.0, high * 1.08)


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Lines as counts by level in about 120 stretches of the window that was asked for."""
    start, end = window_of(frame)
    width = max(pd.Timedelta(seconds=1), ((end - start) / BINS).ceil("s"))
    level = frame[LEVEL].astype("str") if LEVEL in frame.columns else pd.Series("unknown", index=frame.index)
    bins = pd.DatetimeIndex(frame.index).floor(width)
    counts = pd.crosstab(bins, level.replace("", "unknown").to_numpy())
    whole = pd.date_range(start.floor(width), end, freq=width, name="time")
    return counts.reindex(whole.union(pd.DatetimeIndex(counts.index)), fill_value=0)


def ordered(counts: pd.DataFrame) -> pd.DataFrame:
    """The gravest level first; what is no level last. Different spellings of one level are one column."""
    spelled = {"warning": "warn", "err": "error", "crit": "critical", "information": "info", "": "unknown"}
    named = counts.rename(columns=lambda name: spelled.get(str(name).lower(), str(name).lower()))
    rank = {name: place for place, name in enumerate(LEVELS)}
    grouped = named.T.groupby(level=0).sum().T
    return grouped[sorted(grouped.columns, key=lambda name: (rank.get(str(name), len(rank)), str(name)))]
