"""What is drawn over a picture: limits, an earlier window, and moments such as deploys, alerts and OOM kills."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from platformlib.errors import QueryError
from platformlib.plots.canvas import Axes, Entry, Spec, layer, millis, moments, numbers, window_of
from platformlib.plots.reduce import keys, names, wide
from platformlib.plots.style import BAD, OTHERS, SEVERITIES, Look
from platformlib.plots.units import formatted

Limits = float | Mapping[str, float] | pd.DataFrame
Moments = pd.DataFrame | Mapping[str, str]
NUMBERED, DRAWN = 8, 400  # moments that are listed; moments that are drawn, most of them without a number
FAR = 3.0  # a limit this many times above all values is told, not drawn: it would press the curves flat


@dataclass(frozen=True)
class Asked:
    """A frame, and how it is to be drawn."""

    frame: pd.DataFrame
    title: str
    subtitle: str
    top: int
    before: pd.DataFrame | None = None
    limits: Limits | None = None
    marks: Moments | Sequence[Moments] | None = None

    @property
    def unit(self) -> str:
        """The unit of its values."""
        return str(self.frame.attrs.get("unit") or "")


@dataclass(frozen=True)
class Mark:
    """A moment or a stretch of time (milliseconds since 1970), and what happened then."""

    start: int
    end: int
    words: str
    severity: str = "info"

    @property
    def gravity(self) -> int:
        """0 for information, more for worse."""
        return list(SEVERITIES).index(self.severity) if self.severity in SEVERITIES else 0


def marks_of(given: Moments | Iterable[Moments] | None) -> list[Mark]:
    """Marks from frames of events, from a frame of alerts, or from `{"2026-11-23T14:05": "what happened"}`."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [Mark(at, at, words) for text, words in given.items() for at in [_moment(text)]]
    if isinstance(given, pd.DataFrame):
        return _of_events(given) if "what" in given.columns else _of_alerts(given)
    return [mark for one in given for mark in marks_of(one)]


def _moment(text: str) -> int:
    moment = pd.Timestamp(text)
    return millis(moment.tz_localize("UTC") if moment.tzinfo is None else moment)


def _of_events(frame: pd.DataFrame) -> list[Mark]:
    rows = frame[["what", "object", "severity"]].astype("str").itertuples(index=False, name=None)
    pairs = zip(moments(frame), rows, strict=True)
    return [Mark(at, at, f"{what} {name}", gravity) for at, (what, name, gravity) in pairs]


def _of_alerts(frame: pd.DataFrame) -> list[Mark]:
    """A stretch for each run of a series above zero: an alert while it fires."""
    values = wide(frame)
    when, found = moments(values) if len(values) else [], list[Mark]()
    for place, name in enumerate(names(values.columns)):
        on = np.concatenate([[False], values.iloc[:, place].to_numpy(np.float64) > 0, [False]])
        edges = np.flatnonzero(np.diff(on.astype(int)))
        found += [Mark(when[a], when[b - 1], name, "error") for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return found


def drawn_marks(marks: Sequence[Mark], axes: Axes, high: float) -> tuple[list[Spec], list[Entry]]:
    """Lines and bands with numbers above them, and the list that says what each number means."""
    start, end = axes.window
    inside = sorted((mark for mark in marks if mark.start <= end and mark.end >= start), key=lambda mark: mark.start)
    if not inside:
        return [], []
    grave = sorted(inside, key=lambda mark: -mark.gravity)
    listed = sorted(grave[:NUMBERED], key=lambda mark: mark.start)
    number = {id(mark): str(place) for place, mark in enumerate(listed, 1)}
    rows = [
        {
            "t": max(mark.start, start),
            "u": min(mark.end, end),
            "y": high,
            "c": SEVERITIES.get(mark.severity, OTHERS),
            "n": number.get(id(mark), ""),
            "w": f"{_clock(mark.start)} {mark.words}",
        }
        for mark in grave[:DRAWN]
    ]
    color = {"field": "c", "type": "nominal", "scale": None, "legend": None}
    told = {"x": axes.x(), "color": color, "tooltip": {"field": "w", "type": "nominal", "title": " "}}
    sign = {"type": "text", "baseline": "bottom", "dy": -2, "fontSize": 9, "clip": False}
    layers = [
        layer({"type": "rect", "opacity": 0.12}, {**told, "x2": {"field": "u"}}),
        layer({"type": "rule", "strokeDash": [2, 2], "opacity": 0.8}, told),
        layer(sign, {"x": axes.x(), "y": axes.y("y"), "text": {"field": "n"}, "color": color}),
    ]
    entries = [Entry(f"{place} {_clock(mark.start)} {mark.words}") for place, mark in enumerate(listed, 1)]
    left = len(inside) - len(listed)
    entries += [Entry(f"and {left} more moments")] if left else []
    return [{"data": {"values": rows}, "layer": layers}], entries


def _clock(moment: int) -> str:
    return f"{pd.Timestamp(moment, unit='ms', tz='UTC'):%H:%M:%S}"


@dataclass(frozen=True)
class Limit:
    """A limit over time."""

    words: str
    color: str
    when: Sequence[int]
    values: Sequence[float | None]
    far: bool

    def drawn(self, axes: Axes) -> Spec:
        """A dashed line that changes in steps."""
        rows = [{"t": at, "v": value} for at, value in zip(self.when, self.values, strict=True)]
        mark = {"type": "line", "interpolate": "step-after", "strokeDash": [6, 3], "strokeWidth": 1.3}
        return layer(mark | {"color": self.color}, {"x": axes.x(), "y": axes.y("v")}, rows)

    @property
    def entry(self) -> Entry:
        """Its line of the list."""
        return Entry(self.words + (" (above)" if self.far else ""), "" if self.far else self.color, (6, 3))

    @property
    def highest(self) -> float:
        """What has to fit into the picture."""
        return 0.0 if self.far else max((value for value in self.values if value is not None), default=0.0)


def limits_of(asked: Asked, shown: Mapping[str, Look], largest: float) -> list[Limit]:
    """The limits of the series that are drawn; equal ones once.

    Args:
        shown: the looks of the drawn series by their key.
        largest: the largest drawn value.

    Raises:
        QueryError: the limits have another unit than the picture.
    """
    given, unit = asked.limits, asked.unit
    if given is None:
        return []
    if isinstance(given, pd.DataFrame):
        return _of_series(given, shown, unit, largest)
    named = given if isinstance(given, Mapping) else {"limit": float(given)}
    ends = [millis(moment) for moment in window_of(asked.frame)]
    return [
        Limit(f"{name} {formatted(value, unit)}", BAD, ends, [float(value)] * 2, _far(float(value), largest))
        for name, value in named.items()
    ]


def _of_series(given: pd.DataFrame, shown: Mapping[str, Look], unit: str, largest: float) -> list[Limit]:
    other = str(given.attrs.get("unit") or unit)
    if other != unit:
        raise QueryError(f"limits in {other} on a picture in {unit}", fix="draw both: pl.plot([frame, limits])")
    values = wide(given)
    if values.empty:
        return []
    when, found = moments(values), dict[tuple[float | None, ...], list[str]]()
    for place, key in enumerate(keys(values.columns)):
        line = tuple(numbers(values.iloc[:, place]))
        if key in shown and any(value is not None for value in line):
            found.setdefault(line, []).append(key)
    return [_limit(line, whose, when, Over(shown, unit, largest)) for line, whose in found.items()]


def _limit(line: tuple[float | None, ...], whose: list[str], when: list[int], over: "Over") -> Limit:
    known = [value for value in line if value is not None]
    who = whose[0] if len(whose) == 1 else f"{len(whose)} series"
    color = over.shown[whose[0]].color if len(whose) == 1 else BAD
    return Limit(f"limit {formatted(known[-1], over.unit)} {who}", color, when, line, _far(max(known), over.largest))


@dataclass(frozen=True)
class Over:
    """What limits are drawn over: series with their looks by key, their unit, their largest value."""

    shown: Mapping[str, Look]
    unit: str
    largest: float


def _far(limit: float, largest: float) -> bool:
    return largest > 0 and limit > FAR * largest


def earlier(before: pd.DataFrame, frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """An earlier window moved onto the picture's, and how far it was moved: "1 d".

    Raises:
        QueryError: the frames have different units.
    """
    unit, other = (str(one.attrs.get("unit") or "") for one in (frame, before))
    if unit != other:
        raise QueryError(f"{other} cannot be drawn over {unit}", fix="draw both: pl.plot([frame, before])")
    asked, was = (one.attrs.get("window") or (one.index[0],) for one in (frame, before))
    shift = pd.Timestamp(asked[0]) - pd.Timestamp(was[0])
    moved = wide(before).copy()
    moved.index = pd.DatetimeIndex(moved.index) + shift
    return moved, formatted(shift.total_seconds(), "seconds")
