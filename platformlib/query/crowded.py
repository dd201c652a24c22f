"""A nanosecond that has more lines than one answer holds is asked for stream by stream.

Programs that stamp whole seconds make such moments. No page can end inside of one, since a question's borders are
nanoseconds; but each stream by itself can be selected exactly.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

from platformlib.durations import SECOND
from platformlib.query.apart import series
from platformlib.query.logql import SELECTOR
from platformlib.query.quoting import quoted
from platformlib.query.transport import Answer
from platformlib.query.window import Window


def queries(get: Callable[..., Answer], logql: str, moment: int, cancel: threading.Event | None) -> list[str]:
    """The same query for each stream that has lines about that moment."""
    found = series(get, logql, Window(moment - SECOND, moment + SECOND), cancel)
    rest = SELECTOR.sub("", logql, count=1)
    return [selector + rest for selector in selectors(found)]


def selectors(streams: Iterable[Mapping[str, str]]) -> list[str]:
    """One for each stream, that finds no other: a label that only others have must be absent."""
    known = list(streams)
    names = sorted({name for labels in known for name in labels})
    return ["{" + ", ".join(f"{name}={quoted(labels.get(name, ''))}" for name in names) + "}" for labels in known]
