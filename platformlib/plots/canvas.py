"""Views in Vega-Lite: one width, one left edge, names and numbers in a column at the right.

Positions are fixed, not laid out by measured text, so that pictures stand in line below each other and come out the
same on machines with other fonts. `version 5` is what JupyterLab draws by itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from platformlib.plots.style import CONFIG
from platformlib.plots.units import axis_name, formatted, scale, ticks

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
LEFT, WIDTH, RIGHT, TOP, BOTTOM = 66, 500, 300, 58, 40
HEIGHT, ROW = 190, 17
NAME, LAST, MOST = WIDTH + 30, WIDTH + 226, WIDTH + 294  # where the columns of the list stand
LONGEST = 22  # letters of a name there
ALL_LONGEST, HOVER, FRAME = 44, "hover", "frame"  # letters of a name without numbers; what only a pointer shows
Spec = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A line of the list beside a picture."""

    name: str
    color: str = ""
    dash: tuple[int, ...] = ()
    last: str = ""
    most: str = ""


@dataclass(frozen=True)
class View:
    """One pair of axes with its title and list."""

    title: str
    subtitle: str
    layers: Sequence[Spec]
    alt: str
    low: float = 0.0
    high: float = 1.0
    height: int = HEIGHT
    entries: Sequence[Entry] = ()
    header: tuple[str, str] = ("", "")
    bottom: int = BOTTOM
    unit: str = ""
    rows: bool = False
    """Whether the list names the rows of the plotting area, one beside each."""

    @property
    def tall(self) -> int:
        """Pixels of the plotting area: what was wished, or what the list needs."""
        return self.height if self.rows else max(self.height, ROW * (len(self.entries) + any(self.header)))

    def spec(self) -> Spec:
        """This view as Vega-Lite has it."""
        title = {"text": self.title or " ", "anchor": "start", "frame": "group", "dx": -LEFT, "offset": 12}
        return {
            "width": WIDTH,
            "height": self.tall,
            "title": title | ({"subtitle": self.subtitle} if self.subtitle else {}),
            "layer": [*self.layers, *self._list(), *self._unit()],
        }

    def _place(self, pixels: float) -> float:
        """A height in pixels from the top, as a value of the upright axis."""
        return self.high - pixels / self.tall * (self.high - self.low)

    def _list(self) -> list[Spec]:
        if not self.entries:
            return []
        first = 1 if any(self.header) and not self.rows else 0
        rows = [
            {
                "y": self._place(ROW * (place + first) + ROW / 2),
                "n": short(entry.name, LONGEST if entry.last or entry.most else ALL_LONGEST),
                "a": entry.last,
                "b": entry.most,
            }
            for place, entry in enumerate(self.entries)
        ]
        above = {"y": self._place(-8 if self.rows else ROW / 2), "n": "", "a": self.header[0], "b": self.header[1]}
        head = [above] if any(self.header) else []
        marks = [self._sign(row["y"], entry) for row, entry in zip(rows, self.entries, strict=True) if entry.color]
        columns = [("n", NAME, "left"), ("a", LAST, "right"), ("b", MOST, "right")]
        used = [(name, x, side) for name, x, side in columns if any(row[name] for row in [*head, *rows])]
        return marks + [_text([*head, *rows], name, x, side) for name, x, side in used]

    @staticmethod
    def _sign(y: Any, entry: Entry) -> Spec:
        mark = {"type": "rule", "strokeWidth": 3, "color": entry.color, "clip": False}
        mark |= {"strokeDash": list(entry.dash)} if entry.dash else {}
        x = {"x": {"value": WIDTH + 10}, "x2": {"value": WIDTH + 25}}
        return layer(mark, {**x, "y": quantity("y")}, [{"y": y}])

    def _unit(self) -> list[Spec]:
        name = axis_name(self.unit)
        return [_text([{"y": self._place(-9), "n": name}], "n", -6, "right")] if name else []


def _text(rows: Sequence[Mapping[str, Any]], name: str, x: float, side: str) -> Spec:
    mark = {"type": "text", "align": side, "baseline": "middle", "x": x, "clip": False}
    values = [{"y": row["y"], "n": row[name]} for row in rows]
    return layer(mark, {"y": quantity("y"), "text": {"field": "n"}}, values)


def quantity(name: str) -> Spec:
    """A field on the upright axis."""
    return {"field": name, "type": "quantitative"}


@dataclass(frozen=True)
class Axes:
    """Time to the right, values or rows upright: what every layer of a view is drawn on."""

    across: Spec
    up: Spec

    def x(self, name: str = "t") -> Spec:
        """A field with times; the frame says from when to when."""
        scale = {key: value for key, value in self.across["scale"].items() if key == "type"}
        return {**self.across, "field": name, "scale": scale}

    def y(self, name: str) -> Spec:
        """A field with values."""
        return {**self.up, **quantity(name)}

    def frame(self) -> Spec:
        """An invisible layer that says from when to when, and can be moved along the time and narrowed."""
        start, end = self.window
        mark = {"type": "point", "opacity": 0}
        return layer(mark, {"x": self.across}, [{"t": start}, {"t": end}], name=FRAME, params=[zoom()])

    @property
    def window(self) -> tuple[int, int]:
        """From when to when, in milliseconds since 1970."""
        start, end = self.across["scale"]["domain"]
        return start, end


def layer(mark: Spec, encoding: Spec, rows: Sequence[Spec] | None = None, **more: Any) -> Spec:
    """Marks that are not described one by one to a screen reader: the picture has words of its own."""
    data = {} if rows is None else {"data": {"values": list(rows)}}
    return {**data, **more, "mark": {"clip": True, "aria": False, **mark}, "encoding": encoding}


def value_axis(low: float, high: float, unit: str, *, whole: bool = False) -> Spec:
    """The upright axis: ticks that are round in the unit, each named with it."""
    at = ticks(low, high, unit, whole=whole)
    return _axis(low, high, at, [formatted(value, unit) for value in at])


def row_axis(count: int) -> Spec:
    """An upright axis of rows, the first on top, which needs no ticks: the list beside it names them."""
    return {"scale": {"domain": [count, 0], "nice": False, "zero": False}, "axis": None}


def _axis(low: float, high: float, at: Sequence[float], labels: Sequence[str]) -> Spec:
    said = labelled(at, labels)
    axis = {"title": None, "values": list(at), "labelExpr": said, "domain": False, "ticks": False}
    room = {"minExtent": LEFT - 8, "maxExtent": LEFT - 8, "labelPadding": 6, "labelOverlap": False}
    return {"scale": {"domain": [low, high], "nice": False, "zero": False}, "axis": axis | room}


def labelled(at: Sequence[float], labels: Sequence[str]) -> str:
    """Vega's expression for the label of each of these values."""
    return f"{json.dumps(list(labels))}[indexof({json.dumps(list(at))}, datum.value)]"


def time_axis(start: pd.Timestamp, end: pd.Timestamp) -> Spec:
    """The time in UTC, from edge to edge of the window."""
    date = "utchours(datum.value) + utcminutes(datum.value) + utcseconds(datum.value) == 0"
    clock = "'%H:%M:%S'" if end - start < pd.Timedelta(minutes=6) else "'%H:%M'"
    label = f"utcFormat(datum.value, {date} ? '%d %b' : {clock})"
    axis = {"title": "UTC", "titleAnchor": "end", "grid": False, "tickCount": 7, "labelOverlap": False}
    axis |= {"labelFlush": False}
    scale = {"type": "utc", "domain": [millis(start), millis(end)], "nice": False}
    return {"field": "t", "type": "temporal", "scale": scale, "axis": axis | {"labelExpr": label, "titlePadding": 2}}


def millis(moment: pd.Timestamp) -> int:
    """Milliseconds since 1970."""
    return int(moment.value // 1_000_000)


def moments(frame: pd.DataFrame) -> list[int]:
    """The index of a frame in milliseconds since 1970."""
    return [int(value) for value in pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("ms").asi8]


def window_of(frame: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The window that was asked for, or the one that the rows fill; never without length."""
    asked = frame.attrs.get("window") or ()
    start, end = (pd.Timestamp(asked[0]), pd.Timestamp(asked[-1])) if asked else (frame.index.min(), frame.index.max())
    start, end = (moment.tz_localize("UTC") if moment.tzinfo is None else moment for moment in (start, end))
    return start, end if end > start else start + pd.Timedelta(seconds=1)


def numbers(values: Any) -> list[float | None]:
    """Five digits of each value; a gap or an infinite value is null."""
    found = np.asarray(values, np.float64)
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in found]


def short(name: str, longest: int = LONGEST) -> str:
    """A long name without its middle, since both ends tell names apart."""
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[-(longest - longest // 2 - 1) :]}"


def zoom() -> Spec:
    """Drag to move along the time, shift and wheel to narrow it, double-click for the whole window again."""
    interval = {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"}
    return {"name": "zoom", "select": interval, "bind": "scales"}


def hover(fields: Mapping[str, str], axes: Axes, largest: float, unit: str) -> Spec:
    """An upright line at the pointer, and all values at that moment."""
    size, suffix = scale(largest, unit)
    said = {"when": "utcFormat(datum.t, '%Y-%m-%d %H:%M:%S')"}
    said |= {
        f"{name}_": f"isValid(datum.{name}) ? format(datum.{name} / {size!r}, '.3~r') + '{suffix}' : '—'"
        for name in fields
    }
    titles = {"when": "UTC"} | {f"{name}_": title for name, title in fields.items()}
    tooltip = [{"field": name, "type": "nominal", "title": title} for name, title in titles.items()]
    point = {"type": "point", "fields": ["t"], "nearest": True, "on": "pointermove", "clear": "pointerout"}
    shown = {"condition": {"param": "near", "empty": False, "value": 0.45}, "value": 0}
    return layer(
        {"type": "rule"},
        {"x": axes.x(), "opacity": shown, "tooltip": tooltip},
        name=HOVER,
        transform=[{"calculate": text, "as": name} for name, text in said.items()],
        params=[{"name": "near", "select": point}],
    )


def composed(view: View) -> Spec:
    """The whole picture."""
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    return {
        "$schema": SCHEMA,
        "description": view.alt,
        "usermeta": {"embedOptions": {"renderer": "svg", "actions": actions}},
        "autosize": "none",
        "padding": {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": view.bottom},
        "config": dict(CONFIG),
        **view.spec(),
    }


def static(spec: Spec) -> Spec:
    """The picture without what only a pointer can use."""
    if "layer" in spec:
        kept = [static(layer) for layer in spec["layer"] if layer.get("name") != HOVER]
        return {**spec, "layer": kept}
    plain = {key: value for key, value in spec.items() if key != "params"}
    if "encoding" in plain:
        plain["encoding"] = {key: value for key, value in plain["encoding"].items() if key != "tooltip"}
    return plain
