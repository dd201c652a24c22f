"""All lines of a window, page by page, none lost and none doubled.

A page holds the first lines of all streams together, up to a limit. Whether the page's last nanosecond is whole cannot
be known, so all its lines are dropped, and the next page begins with that nanosecond. Nothing is compared, so lines
that are equal to the last byte are kept apart. When one nanosecond fills a page, the page grows, as far as the server
allows; beyond, its streams are asked for one by one.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from platformlib.errors import BadQuery, IncompleteAnswer
from platformlib.query import crowded
from platformlib.query.apart import Streams
from platformlib.query.logql import refused_limit
from platformlib.query.streams import CATEGORIZE, Page, joined, page
from platformlib.query.transport import TIMEOUT, Answer, Params
from platformlib.query.window import Window

PATH = "/loki/api/v1/query_range"
PAGE = 50_000  # lines; a server that allows fewer says so, and is believed
Get = Callable[..., Answer]


@dataclass
class Pager:
    """Pages of one log query. It learns the server's limit, for all its windows."""

    get: Get
    logql: str
    size: int = PAGE
    most: int | None = None  # lines a page, as the server said
    timeout: float = TIMEOUT
    streams: Streams | None = None  # when known, the cheaper answer is asked for

    def all(self, window: Window, cancel: threading.Event | None = None) -> Page:
        """Every line of the window, by time: each thread sorts its own, so that the whole needs no sorting."""
        return joined(list(self._pages(window, cancel))).in_time()

    def page_size(self, window: Window, cancel: threading.Event | None = None) -> int:
        """How many lines a page has: as many as wanted, or as the server gives; it is asked for a moment's lines."""
        self._page(window.end - 1, window.end, self.size, "forward", cancel)
        return min(self.size, self.most or self.size)

    def first(self, window: Window, count: int, *, backward: bool, cancel: threading.Event | None = None) -> Page:
        """The first `count` lines of the window, or the last ones."""
        pages: list[Page] = []
        for one in self._pages(window, cancel, count, backward=backward):
            pages.append(one)
            if sum(map(len, pages)) >= count:
                break
        found = joined(pages)
        order = np.argsort(found.times, kind="stable")
        chosen = np.zeros(len(found), bool)
        chosen[order[-count:] if backward else order[:count]] = True
        return found.where(chosen)

    def _pages(
        self, window: Window, cancel: threading.Event | None, count: int | None = None, *, backward: bool = False
    ) -> Iterator[Page]:
        start, end, size = window.start, window.end, self._size(count)
        direction = "backward" if backward else "forward"
        while start < end:
            found, size, (start, end) = self._page(start, end, size, direction, cancel)
            if len(found) < size:
                yield found
                return
            border = int(found.times.min() if backward else found.times.max())
            crowd = border == (end - 1 if backward else start)  # the page has nothing but one nanosecond
            if crowd and self._may_grow(size):
                size *= 2
                continue
            if crowd:
                yield self._crowd(border, cancel)
                size = self._size(count)
            else:
                yield found.where(found.times > border if backward else found.times < border)
            # A crowd is whole; of any other border the rest is still to come.
            start, end = (start, border + (not crowd)) if backward else (border + crowd, end)

    def _size(self, count: int | None) -> int:
        """One line more than is wanted, since the last nanosecond of a full page is dropped."""
        return self.size if count is None else min(self.size, count + 1)

    def _asked(self, params: Params, cancel: threading.Event | None) -> tuple[Page, Answer]:
        streams = self.streams
        headers = CATEGORIZE if streams is None else {}
        answer = self.get(PATH, params, headers=headers, timeout=self.timeout, cancel=cancel)
        found = page(answer)
        if streams is None:
            return found, answer
        if (split := streams.apart(found)) is not None:
            return split, answer
        self.streams = None
        return self._asked(params, cancel)

    def _may_grow(self, size: int) -> bool:
        return self.most is None or size < self.most

    def _crowd(self, moment: int, cancel: threading.Event | None) -> Page:
        """All lines of one nanosecond. Raises IncompleteAnswer when a single stream has too many of them."""
        pages, most = [], self.most or self.size
        for query in crowded.queries(self.get, self.logql, moment, cancel):
            found, size, _ = replace(self, logql=query)._page(moment, moment + 1, most, "forward", cancel)
            if len(found) >= size:
                raise IncompleteAnswer(
                    f"one nanosecond ({moment}) of one stream has more lines than the server gives at once ({size})",
                    fix="narrow the selector, or raise Loki's max_entries_limit_per_query",
                )
            pages.append(found)
        return joined(pages)

    def _page(
        self, start: int, end: int, size: int, direction: str, cancel: threading.Event | None
    ) -> tuple[Page, int, tuple[int, int]]:
        """The lines, how many could have come, and the window that was answered (a replay's is the recorded one)."""
        size = min(size, self.most or size)
        params = {"query": self.logql, "start": str(start), "end": str(end), "limit": str(size), "direction": direction}
        try:
            found, answer = self._asked(params, cancel)
        except BadQuery as error:
            self.most = refused_limit(str(error))
            if self.most is None or self.most >= size:
                raise
            return self._page(start, end, self.most, direction, cancel)
        return found, size, (int(str(answer.params["start"])), int(str(answer.params["end"])))
