"""Stream labels and structured metadata, told apart by knowing the streams.

Loki can say itself which is which, at half again the cost of an answer. Where a query only filters lines, an answer's
labels are a stream's labels and the line's metadata together; the streams are known from `/series`, so the rest is
metadata. When two streams would fit, or none, the caller asks Loki itself.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping

from platformlib.query.envelope import Labels, data, labels_of
from platformlib.query.logql import SELECTOR, STRING, selector_of
from platformlib.query.streams import Page
from platformlib.query.transport import Answer
from platformlib.query.window import Window

FILTERS = re.compile(rf"(?:\s*(?:\|=|!=|\|~|!~)\s*(?:{STRING}))*\s*", re.DOTALL)
MOST = 0.1  # distinct sets of labels for each line; above, metadata differs so much that a stream a set costs more


def only_filters(logql: str) -> bool:
    """Whether a log query has no stage that makes or changes labels."""
    found = SELECTOR.match(logql)
    return found is not None and FILTERS.fullmatch(logql, found.end()) is not None


def series(
    get: Callable[..., Answer], logql: str, window: Window, cancel: threading.Event | None
) -> list[dict[str, str]]:
    """The labels of each stream that a log query's selector finds in a window."""
    asked = {"match[]": selector_of(logql), "start": str(window.start), "end": str(window.end)}
    return data(get("/loki/api/v1/series", asked, cancel=cancel), list[dict[str, str]])[0]


class Streams:
    """The streams of a window."""

    def __init__(self, series: Iterable[Mapping[str, str]]) -> None:
        self._known: dict[tuple[str, ...], set[Labels]] = {}
        for one in series:
            labels = labels_of(dict(one))
            self._known.setdefault(tuple(name for name, _ in labels), set()).add(labels)

    def split(self, labels: Labels) -> tuple[Labels, Labels] | None:
        """Stream labels and metadata; None unless exactly one stream fits."""
        given = dict(labels)
        internal = {name for name in given if name.startswith("__")}  # such as __stream_shard__; never metadata
        found = [
            stream
            for names, streams in self._known.items()
            if internal <= set(names) and (stream := tuple((name, given.get(name, "")) for name in names)) in streams
        ]
        if len(found) != 1:
            return None
        own = dict(found[0])
        return found[0], tuple(pair for pair in labels if pair[0] not in own)

    def apart(self, page: Page) -> Page | None:
        """The page with its metadata apart; None when that cannot be known, or would cost more than asking."""
        if len(page.keys) > max(100, MOST * len(page)):
            return None
        keys = [self.split(labels) for labels, _, _ in page.keys]
        if None in keys:
            return None
        return Page(page.times, page.lines, page.codes, tuple((*key, ()) for key in keys if key is not None))
