"""A query over a window: split below what one query may have, asked in parallel, joined to one frame.

Prometheus's and Loki's metric queries share this, and their answers' form.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from platformlib.durations import SECOND
from platformlib.query import envelope, frames
from platformlib.query.envelope import Labels
from platformlib.query.pool import WORKERS, Progress, in_parallel
from platformlib.query.samples import Moments, Samples
from platformlib.query.transport import Answer
from platformlib.query.window import Moment, Span, Window, duration, step_for, text, utc, window

POINTS_LIMIT = 11_000  # both servers refuse more points of one series in one query
MS = SECOND // 1000
Shape = Literal["wide", "long"]
Part = tuple[Moments, envelope.Found]  # evaluation times, and what was found there
Get = Callable[..., Answer]


@dataclass(frozen=True)
class Plan:
    """A window, the step between its points, and the windows of the single questions."""

    window: Window
    step: int  # nanoseconds
    parts: tuple[Window, ...]

    @classmethod
    def of(
        cls,
        span: Span | Window | None,
        *,
        now: int,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Span | None = None,
        aligned: bool = False,
    ) -> "Plan":
        """No part has more than 11,000 points; all lie on one grid that begins at the window's start.

        `aligned` widens the window to whole steps, as Loki does on its own when it splits a query.
        """
        whole = window(span, start=start, end=end, now=now)
        width = max(MS, duration(step) // MS * MS if step is not None else step_for(whole.length))
        if aligned:
            whole = Window(whole.start // width * width, -(-whole.end // width) * width)
        longest = (POINTS_LIMIT - 1) * width
        # The end belongs to the window, so the last part may be a single moment: it is given a nanosecond of length.
        starts = range(whole.start, whole.end + 1, longest + width)
        parts = (Window(first, max(min(first + longest, whole.end), first + 1)) for first in starts)
        return cls(whole, width, tuple(parts))


def fetch(
    get: Get,
    path: str,
    query: str,
    plan: Plan,
    *,
    workers: int = WORKERS,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    **how: Any,
) -> list[Part]:
    """Every part's series, in order."""

    def part(span: Window, stop: threading.Event) -> Part:
        times = {"start": seconds(span.start), "end": seconds(span.end), "step": seconds(plan.step)}
        return _read(get(path, {"query": query, **times}, cancel=stop, **how), plan.step // MS)

    return in_parallel(part, plan.parts, workers=workers, progress=progress, cancel=cancel)


def _read(answer: Answer, step: int) -> Part:
    """A replayed answer has recorded times: its grid comes from the parameters that it answers."""
    first, last = (round(float(str(answer.params[key])) * 1000) for key in ("start", "end"))
    found = envelope.matrix(answer)
    frames.within(found.series, first - step, last + step)
    return np.arange(first, last + 1, step, dtype=np.int64), found


def frame(parts: Sequence[Part], query: str, plan: Plan, shape: Shape, labels: Sequence[str]) -> pd.DataFrame:
    """The parts as one frame, with what was asked in its `.attrs`."""
    found = joined(parts)
    if shape == "wide":
        made = frames.wide([(grid, part.series) for grid, part in parts], names=labels)
    else:
        made = frames.long(found.series, names=labels)
    return about(made, found, query=query, plan=plan, start=int(parts[0][0][0]) * MS)


def joined(parts: Sequence[Part]) -> envelope.Found:
    """The parts' series: samples of one series follow each other."""
    if len(parts) == 1:
        return parts[0][1]
    pieces: dict[Labels, list[Samples]] = {}
    histograms: dict[Labels, list[Any]] = {}
    for _, found in parts:
        for labels, samples in found.series.items():
            pieces.setdefault(labels, []).append(samples)
        for labels, texts in found.histograms.items():
            histograms.setdefault(labels, []).extend(texts)
    series = {labels: _concatenated(found) for labels, found in pieces.items()}
    return envelope.Found(series, histograms, tuple(dict.fromkeys(note for _, found in parts for note in found.notes)))


def _concatenated(pieces: Sequence[Samples]) -> Samples:
    if len(pieces) == 1:
        return pieces[0]
    times = np.concatenate([piece.times for piece in pieces])
    return Samples(times, np.concatenate([piece.values for piece in pieces]))


def about(
    made: pd.DataFrame, found: envelope.Found, *, query: str, plan: Plan | None = None, start: int
) -> pd.DataFrame:
    """The frame with its `.attrs`: query, window, step, warnings, complete."""
    notes = list(found.notes)
    if found.histograms and "bucket" not in made.columns:
        notes.append(f"{len(found.histograms)} native histograms are left out: see Prometheus.histograms()")
    end = start + (plan.window.length if plan else 0)
    made.attrs |= {
        "query": query,
        "window": (utc(start).isoformat(), utc(end).isoformat()),
        "step": text(plan.step) if plan else None,
        "warnings": notes,
        "complete": not any("truncated" in note for note in notes),
    }
    return made


def seconds(nanoseconds: int) -> str:
    """Seconds as both servers read them, exact to the millisecond."""
    whole, rest = divmod(nanoseconds // MS, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)
