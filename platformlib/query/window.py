"""A window of time: from "1h", or from two moments, to whole nanoseconds UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from platformlib.durations import SECOND, UNIT, UNITS
from platformlib.errors import QueryError

STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
POINTS = 300  # what a picture can show, and more
SCRAPE_STEP = 15  # seconds; finer steps repeat the same sample

Moment = str | float | datetime
Span = str | float | timedelta


@dataclass(frozen=True)
class Window:
    """A half-open stretch of time in nanoseconds since 1970, UTC."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise QueryError(f"an empty window: {self}", fix="give a start before the end")

    def __str__(self) -> str:
        return f"{utc(self.start):%Y-%m-%d %H:%M:%S} to {utc(self.end):%Y-%m-%d %H:%M:%S} UTC"

    @property
    def length(self) -> int:
        """Nanoseconds from start to end."""
        return self.end - self.start

    def parts(self, count: int) -> list["Window"]:
        """`count` windows of almost equal length that cover this one."""
        count = max(1, min(count, self.length))
        edges = [self.start + self.length * k // count for k in range(count + 1)]
        return [Window(*pair) for pair in pairwise(edges)]


def utc(nanoseconds: int) -> datetime:
    """A moment for people to read."""
    return datetime.fromtimestamp(nanoseconds / SECOND, UTC)


def duration(span: Span) -> int:
    """Nanoseconds of "1h30m", a timedelta, or a number of seconds."""
    if isinstance(span, timedelta):
        return round(span.total_seconds() * 1e6) * 1000
    if isinstance(span, int | float):
        return round(span * SECOND)
    found = re.findall(rf"(\d+(?:\.\d+)?)({UNIT})", span)
    if not found or "".join(number + unit for number, unit in found) != span.replace(" ", ""):
        raise QueryError(f"not a duration: {span!r}", fix='write it as "90s", "15m", "1h30m" or "7d"')
    return round(sum(float(number) * UNITS[unit] for number, unit in found))


def moment(value: Moment, *, now: int) -> int:
    """Nanoseconds since 1970 of a moment: ISO 8601, seconds, "now", "-1h", or a datetime with its zone."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise QueryError(f"{value} has no time zone", fix="give one: datetime(..., tzinfo=UTC)")
        return round((value - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000
    if isinstance(value, int | float):
        return round(value * SECOND)
    if value == "now":
        return now
    if value.startswith("-"):
        return now - duration(value[1:])
    return _iso(value)


def _iso(text: str) -> int:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(
            f"not a moment: {text!r}", fix='write it as "2026-11-23T14:05" (UTC), "-1h" or "now"'
        ) from None
    return moment(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC), now=0)


def window(
    span: Span | Window | None = None, *, start: Moment | None = None, end: Moment | None = None, now: int
) -> Window:
    """The window that a caller means: a length up to `end` (default: now), or `start` to `end`.

    A moment relative to now is cut to the whole second, so that a recorded query has the same shape as its replay.
    """
    if isinstance(span, Window):
        return span
    second = now // SECOND * SECOND
    last = second if end is None else moment(end, now=second)
    if start is not None:
        return Window(moment(start, now=second), last)
    return Window(last - duration("1h" if span is None else span), last)


def step_for(length: int) -> int:
    """A round step in nanoseconds that gives about 300 points, and never less than 15 s."""
    wanted = max(SCRAPE_STEP, length / SECOND / POINTS)
    return next((step for step in STEPS if step >= wanted), round(wanted)) * SECOND


def text(nanoseconds: int) -> str:
    """A duration as Prometheus writes it, in the largest unit that divides it: 90s, 15m, 1h."""
    unit = next((unit for unit in ("d", "h", "m", "s", "ms") if nanoseconds % UNITS[unit] == 0), "ms")
    return f"{nanoseconds // UNITS[unit]}{unit}"
