"""Rows and bars: heat maps, a histogram's buckets, events in lanes, one moment's values, a matrix of yes and no.

Every row has its name at the right, where the other pictures have their list: all plotting areas begin at one edge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from platformlib.plots.canvas import (
    ROW,
    WIDTH,
    Axes,
    Entry,
    Spec,
    View,
    labelled,
    layer,
    moments,
    numbers,
    quantity,
    row_axis,
    short,
    time_axis,
    window_of,
)
from platformlib.plots.marks import Asked, drawn_marks, marks_of
from platformlib.plots.overtime import bounds, extremes, in_words
from platformlib.plots.reduce import keys, labels_of, names, reduced, wide
from platformlib.plots.style import BAD, GOOD, INK, OTHERS, SEVERITIES, looks
from platformlib.plots.units import axis_name, formatted, ticks

ROWS, COLUMNS, LANES, BINS = 30, 104, 14, 240
HAPPENED = ("all", "worse")  # how much happened in a lane, and how much of it is a warning or an error
SCHEME = "cividis"
# Units whose values are 0 and 1: their colours, and which value stands for a stretch that has both.
STATES = {"ready": (BAD, GOOD, "min"), "up": (BAD, GOOD, "min"), "firing": ("transparent", BAD, "max")}


def heat(asked: Asked) -> View:
    """A row each series, the largest on top; the others' mean is the last row. What is missing is blank."""
    kept = reduced(asked.frame, max(asked.top, ROWS))
    rows = kept.top
    if kept.others.shape[1]:
        rows = rows.assign(**{f"mean of {kept.others_name}": kept.others.mean(axis=1)})
    labels = [str(name) for name in rows.columns]
    return _mesh(asked, rows.set_axis(range(rows.shape[1]), axis=1), labels)


def buckets(asked: Asked) -> View:
    """How many observations fall between a bucket's bounds: the answer's cumulative counts, told apart."""
    values = wide(asked.frame).astype(np.float64)
    values.columns = pd.Index([float(name) for name in names(values.columns)])
    values = values.sort_index(axis=1)
    apart = values.diff(axis=1)
    apart.iloc[:, 0] = values.iloc[:, 0]
    used = (apart > 0).any().to_numpy().nonzero()[0]
    shown = apart.iloc[:, used[0] : used[-1] + 1] if len(used) else apart
    shown = shown.iloc[:, ::-1].iloc[:, : 2 * ROWS]
    labels = [
        f"≤ {formatted(bound, 'seconds')}" if np.isfinite(bound) else "longer" for bound in map(float, shown.columns)
    ]
    return _mesh(asked, shown.clip(lower=0).set_axis(range(shown.shape[1]), axis=1), labels)


def _mesh(asked: Asked, rows: pd.DataFrame, labels: Sequence[str]) -> View:
    """Coloured cells; the numbers beside each row are its last and largest value."""
    count, state, (low, high) = len(labels), STATES.get(asked.unit), extremes(rows)
    axes = Axes(time_axis(*window_of(asked.frame)), row_axis(count))
    domain = [0, 1] if state else [min(0.0, low), high if high > min(0.0, low) else low + 1]
    scale: Spec = {"domain": domain} | ({"range": list(state[:2])} if state else {"scheme": SCHEME})
    color = {"field": "v", "type": "quantitative", "scale": scale, "legend": None}
    place = {"x": axes.x(), "x2": {"field": "u"}, "y": axes.y("r"), "y2": {"field": "q"}}
    edge = [{"calculate": "datum.r + 0.92", "as": "q"}]
    found = _cells(rows, state[2] if state else "mean")
    cells = layer({"type": "rect"}, {**place, "color": color}, found, transform=edge)
    header = ("", "") if state else ("last", "max")
    entries = [_row(label, rows.iloc[:, row], asked.unit, numbers=not state) for row, label in enumerate(labels)]
    return _grid(asked, axes, [cells], entries, header)


def _cells(rows: pd.DataFrame, how: str) -> list[Spec]:
    """A cell for each stretch in which a row keeps its value; at most COLUMNS of them in a row."""
    when = np.array(moments(rows))
    width = int(np.median(np.diff(when))) if len(when) > 1 else 15_000
    stretch = np.arange(len(rows)) * COLUMNS // max(len(rows), COLUMNS)
    drawn = rows.groupby(stretch).agg(how)
    # A value at a moment is of the step before it.
    ends = [int(at) for at in when[np.searchsorted(stretch, drawn.index, side="right") - 1]]
    starts = [int(when[0]) - width, *ends[:-1]]
    made = []
    for row in range(drawn.shape[1]):
        values = numbers(drawn.iloc[:, row])
        for first, last in _runs(values):
            if values[first] is not None:
                made.append({"t": starts[first], "u": ends[last], "r": row, "v": values[first]})
    return made


def _runs(values: Sequence[float | None]) -> Iterator[tuple[int, int]]:
    """First and last place of each run of equal values."""
    first = 0
    for place in range(1, len(values) + 1):
        if place == len(values) or values[place] != values[first]:
            yield first, place - 1
            first = place


def _row(label: str, values: "pd.Series[float]", unit: str, *, numbers: bool) -> Entry:
    known = values[np.isfinite(values)]
    told = (formatted(known.iloc[-1], unit), formatted(known.max(), unit)) if numbers and len(known) else ("", "")
    return Entry(label, "", (), *told)


def _grid(asked: Asked, axes: Axes, layers: list[Spec], entries: Sequence[Entry], header: tuple[str, str]) -> View:
    marked, said = drawn_marks(marks_of(asked.marks), axes, 0)
    count, alt = len(entries), in_words(asked, [*entries, *said])
    return View(asked.title, asked.subtitle, [axes.frame(), *layers, *marked], alt, count, 0, ROW * count,
                entries=entries, header=header, rows=True)  # fmt: skip


def lane_names(frame: pd.DataFrame) -> "pd.Series[str]":
    """Such as "Pod storage"."""
    return (frame["kind"].astype("str") + " " + frame["namespace"].fillna("").astype("str")).str.strip()


def lanes(asked: Asked) -> View:
    """Events as marks, a lane for each kind and namespace; the busiest by name, the others in one lane together."""
    frame = asked.frame
    called = lane_names(frame)
    busy = called.value_counts()
    kept = sorted(busy.index[: LANES if len(busy) > LANES + 1 else len(busy)])
    shown = [*kept, f"others ({len(busy) - len(kept)})"] if len(busy) > len(kept) else kept
    place = {name: number for number, name in enumerate(shown)}
    axes = Axes(time_axis(*window_of(frame)), row_axis(len(shown)))
    gravity = list(SEVERITIES)
    rows = _happened(frame, called.map(lambda name: place.get(name, len(shown) - 1)).to_numpy())
    # Severities lie a little apart, so that an error is not hidden under what came with it.
    rows = [row | {"y": row["r"] + 0.5 + (gravity.index(row["s"]) - 1) * 0.2} for row in rows]
    color = {"field": "s", "type": "nominal", "legend": None,
             "scale": {"domain": gravity, "range": list(SEVERITIES.values())}}  # fmt: skip
    size = {"field": "n", "type": "quantitative", "legend": None, "scale": {"domain": [1, 50], "range": [28, 110]}}
    told = [{"field": "w", "type": "nominal", "title": " "}]
    where = {"x": axes.x(), "y": axes.y("y")}
    mark = {"type": "circle", "opacity": 0.85, "clip": False}
    points = layer(mark, {**where, "color": color, "size": size, "tooltip": told}, rows)
    lines = [{"y": number} for number in range(len(shown) + 1)]
    grid = layer({"type": "rule", "opacity": 0.12}, {"y": axes.y("y")}, lines)
    counts = frame["severity"].astype("str").value_counts()
    said = ", ".join(f"{name} {counts[name]}" for name in reversed(gravity) if name in counts)
    worse = called[frame["severity"].astype("str").isin(gravity[1:]).to_numpy()].value_counts()
    lane = called.map(lambda name: name if name in place else shown[-1]).value_counts()
    entries = [
        Entry(name, "", (), str(lane.get(name, 0)), str(worse.get(name, 0)) if name in place else "") for name in shown
    ]
    return replace(
        _grid(replace(asked, subtitle=f"{asked.subtitle}   ·   {said}"), axes, [points, grid], entries, HAPPENED),
        low=float(len(shown)),
    )


def _happened(frame: pd.DataFrame, lane: Any) -> list[Spec]:
    """What happened in one lane at about one time is one mark, as large as it was often."""
    start, end = window_of(frame)
    width = max((end - start) // BINS, pd.Timedelta(seconds=1))
    table = pd.DataFrame({
        "t": pd.DatetimeIndex(frame.index).as_unit("ms").asi8,
        "r": lane,
        "s": frame["severity"].astype("str").to_numpy(),
        "w": (frame["what"].astype("str") + " " + frame["object"].astype("str")).to_numpy(),
        "bin": (pd.DatetimeIndex(frame.index) - start) // width,
    })  # fmt: skip
    grouped = table.groupby(["bin", "r", "s"], sort=True)
    made = grouped.agg(t=("t", "median"), n=("w", "size"), w=("w", "first")).reset_index().to_dict("records")
    return [
        {
            "t": int(row["t"]),
            "r": int(row["r"]),
            "s": row["s"] if row["s"] in SEVERITIES else "info",
            "n": int(row["n"]),
            "w": row["w"] if row["n"] == 1 else f"{row['w']} and {row['n'] - 1} more",
        }
        for row in made
    ]


def bars(asked: Asked) -> View:
    """The largest values of one moment as bars, each with its number; the others counted and named."""
    values, called = moment_of(asked.frame)
    order = values.to_numpy().argsort(kind="stable")[::-1]
    count = asked.top if len(order) > asked.top + 1 else len(order)
    shown, rest = values.iloc[order[:count]], values.iloc[order[count:]]
    looked = looks.all([called[place] for place in order[:count]])
    entries = [Entry(str(name), "", (), "", formatted(float(value), asked.unit)) for name, value in shown.items()]
    rows = [{"r": row, "v": value, "c": look.color} for row, (value, look) in
            enumerate(zip(numbers(shown), looked, strict=True)) if value is not None]  # fmt: skip
    if len(rest):
        entries.append(Entry(f"others ({len(rest)})", "", (), "", f"≤ {formatted(float(rest.max()), asked.unit)}"))
        rows += [{"r": count, "v": numbers([rest.max()])[0], "c": OTHERS}]
    low, high = bounds(*extremes(values.to_frame()), asked.unit)
    at = ticks(low, high, asked.unit, whole=bool((values % 1 == 0).all()))
    axis = {"values": at, "labelExpr": labelled(at, [formatted(value, asked.unit) for value in at]), "grid": True,
            "title": axis_name(asked.unit) or None, "titleAnchor": "end", "domain": False, "ticks": False,
            "labelOverlap": False, "labelFlush": False}  # fmt: skip
    across = {**quantity("v"), "scale": {"domain": [low, high], "nice": False, "zero": False}, "axis": axis}
    axes = Axes(across, row_axis(len(entries)))
    color = {"field": "c", "type": "nominal", "scale": None, "legend": None}
    edges = [{"calculate": "datum.r + 0.14", "as": "p"}, {"calculate": "datum.r + 0.86", "as": "q"}]
    where = {"x": across, "x2": {"datum": 0}, "y": axes.y("p"), "y2": {"field": "q"}, "color": color}
    drawn = layer({"type": "rect"}, where, rows, transform=edges)
    alt = in_words(asked, entries)
    return View(asked.title, asked.subtitle, [drawn], alt, len(entries), 0, ROW * len(entries),
                entries=entries, rows=True)  # fmt: skip


def moment_of(frame: pd.DataFrame) -> tuple["pd.Series[float]", list[str]]:
    """A value for each series by its name, and its key; of a wide frame the last one known."""
    labels = labels_of(frame)
    last = (frame.ffill().iloc[-1] if labels is frame.columns else frame["value"]).to_numpy(np.float64)
    told, called = names(labels), keys(labels)
    known = np.isfinite(last)
    kept = [place for place in range(len(last)) if known[place]]
    return pd.Series(last[known], index=[told[place] for place in kept]), [called[place] for place in kept]


def matrix(table: pd.DataFrame, title: str, subtitle: str) -> View:
    """Rows against columns: 1 open, 0 closed, between them partly open, below 0 not as it should be.

    A row's name stands beside it, a column's below it; what is wrong has a cross as well as a colour.
    """
    count, width = len(table), WIDTH / max(table.shape[1], 1)
    values = table.to_numpy(np.float64)
    names_across = [short(str(name), 24) for name in table.columns]
    cells = [
        _pair(float(values[row, column]), f"{table.index[row]} to {table.columns[column]}")
        | {"x": column * width, "u": (column + 0.92) * width, "r": row, "q": row + 0.92}
        for row in range(count)
        for column in range(table.shape[1])
    ]
    across = {**quantity("x"), "scale": {"domain": [0, WIDTH], "nice": False}, "axis": None}
    axes = Axes(across, row_axis(count))
    where = {"x": across, "x2": {"field": "u"}, "y": axes.y("r"), "y2": {"field": "q"}}
    color = {"field": "c", "type": "nominal", "scale": None, "legend": None}
    opacity = {"field": "o", "type": "quantitative", "scale": None, "legend": None}
    told = [{"field": "w", "type": "nominal", "title": " "}]
    filled = layer({"type": "rect"}, {**where, "color": color, "opacity": opacity, "tooltip": told}, cells)
    wrong = [cell for cell in cells if cell["bad"]]
    crosses = [{"x": cell["x"] + width / 2, "r": cell["r"] + 0.5, "n": "✕"} for cell in wrong]
    feet = [{"x": (place + 0.5) * width, "r": count + 0.3, "n": name} for place, name in enumerate(names_across)]
    text = {"x": across, "y": axes.y("r"), "text": {"field": "n"}}
    cross = {"type": "text", "color": "white", "baseline": "middle"}
    size = min(11, max(7, width * 0.9))
    foot = {"type": "text", "angle": 270, "align": "right", "baseline": "middle", "clip": False, "fontSize": size}
    said = "; ".join(str(cell["w"]) for cell in wrong[:5])
    return View(
        title,
        subtitle,
        [filled, layer(cross, text, crosses), layer(foot, text, feet)],
        f"{title}. {subtitle}. {len(cells)} pairs, {len(wrong)} not as they should be. {said}",
        low=count,
        high=0,
        height=ROW * count,
        entries=[Entry(str(name)) for name in table.index],
        rows=True,
        bottom=20 + 6 * max(map(len, names_across), default=0),
    )


def _pair(value: float, pair: str) -> Spec:
    """Colour, opacity and words of one cell of a matrix."""
    color, opacity, words = (
        (BAD, 1.0, "not as it should be")
        if value < 0
        else (INK, 0.08, "closed")
        if value == 0
        else (GOOD, 1.0, "open")
        if value == 1
        else (GOOD, 0.45, "partly open")
    )
    return {"c": color, "o": opacity, "bad": value < 0, "w": f"{pair}: {words}"}
