"""Following new lines by asking again and again: nothing is dropped under load, and recordings can be replayed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from platformlib.durations import SECOND
from platformlib.query.window import Window

if TYPE_CHECKING:
    from platformlib.query.loki import Loki

OVERLAP = 10 * SECOND  # lines may arrive this late
Until = Callable[[pd.DataFrame], bool]


def follow(
    loki: "Loki",
    logql: str,
    *,
    seconds: float | None,
    until: Until | None,
    every: float,
    cancel: threading.Event | None,
) -> Iterator[pd.DataFrame]:
    """Frames of lines that were not there before."""
    stop = cancel or threading.Event()
    ends = time.monotonic() + seconds if seconds is not None else None
    begun = loki.transport.now()
    seen: Counter[Any] = Counter()
    while not stop.is_set():
        now = loki.transport.now()
        span = Window(max(begun, now - OVERLAP - round(2 * every * SECOND)), max(now, begun + 1))
        frame = loki.lines(logql, span, proven=False, cancel=cancel)
        keys = list(frame.itertuples(name=None))
        fresh, seen = _fresh(keys, seen), Counter(keys)
        new = frame.loc[fresh]
        if len(new):
            yield new
        if (until is not None and len(new) and until(new)) or (ends is not None and time.monotonic() >= ends):
            return
        stop.wait(every)


def _fresh(keys: list[Any], seen: Counter[Any]) -> list[bool]:
    """Which lines are new; of equal lines, as many as there were before are old."""
    left = Counter(seen)
    marks = []
    for key in keys:
        marks.append(left[key] <= 0)
        left[key] -= 1
    return marks
