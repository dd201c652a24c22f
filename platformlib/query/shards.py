"""A long window cut where the data lies, so that each shard is about one page; and the proof that all came."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from msgspec import Struct

from platformlib.durations import SECOND
from platformlib.errors import BadQuery, IncompleteAnswer, QueryError
from platformlib.query import envelope
from platformlib.query.apart import Streams, only_filters, series
from platformlib.query.logql import counting, selector_of
from platformlib.query.pages import Pager
from platformlib.query.pool import Progress, in_parallel
from platformlib.query.streams import Page, joined
from platformlib.query.transport import Answer
from platformlib.query.window import Window

LINE = 150.0  # bytes that a line is thought to have where the index does not know
FILL = 0.5  # how full a page should be: an overflow is asked for twice, and the index knows the newest lines late
BUCKETS = 500  # of volume, over the window
LONGEST = 30 * 86400 * SECOND  # Loki refuses longer queries by default
MS = SECOND // 1000
ROUNDS = 3  # of asking again for shards whose count differs: lines may still be arriving
Get = Callable[..., Answer]


class Stats(Struct):
    """What the index knows of a selector."""

    bytes: int = 0
    entries: int = 0


@dataclass(frozen=True)
class Reader:
    """Every line of a window: shards in parallel, counted by the server."""

    get: Get
    pager: Pager
    workers: int
    progress: Progress | None
    cancel: threading.Event | None

    def read(self, window: Window, *, proven: bool) -> Page:
        """All lines. Raises IncompleteAnswer when the server counts more or fewer than came."""
        shards = self.shards(window)
        self.pager.streams = self._streams(window)
        counts = within_limit(window) if proven else []
        work: list[tuple[bool, Window]] = [*((True, part) for part in counts), *((False, shard) for shard in shards)]
        found = in_parallel(self._either, work, workers=self.workers, progress=self.progress, cancel=self.cancel)
        pages = [one for one in found if isinstance(one, Page)]
        counted = sum(one for one in found if isinstance(one, int))
        if proven and counted != sum(map(len, pages)):
            pages = self._mended(shards, pages)
        return joined(pages)

    def _either(self, work: tuple[bool, Window], stop: threading.Event) -> Page | int:
        """The count is asked for beside the lines: what one thread waits for, another one uses the server for."""
        counting_it, window = work
        return self.count(window) if counting_it else self.pager.all(window, stop)

    def shards(self, window: Window) -> list[Window]:
        """Windows of about one page each, by the index's volume; of equal length where there is no volume."""
        size = self.pager.page_size(window, self.cancel)
        return [shard for part in within_limit(window) for shard in self._cut(part, size)]

    def _cut(self, window: Window, size: int) -> list[Window]:
        step = max(1, window.length // BUCKETS // SECOND)
        asked = {"query": selector_of(self.pager.logql), "start": str(window.start), "end": str(window.end)}
        options = {"aggregateBy": "series", "targetLabels": "", "step": f"{step}s"}
        try:
            found = envelope.matrix(self.get("/loki/api/v1/index/volume_range", asked | options, cancel=self.cancel))
            return cut(window, found, max(1, round(size * FILL * self._line(asked))))
        except QueryError:
            return window.parts(self.workers)

    def _streams(self, window: Window) -> Streams | None:
        """The window's streams, where knowing them spares the server work."""
        if not only_filters(self.pager.logql):
            return None
        try:
            return Streams(series(self.get, self.pager.logql, window, self.cancel))
        except QueryError:
            return None

    def _line(self, asked: dict[str, str]) -> float:
        """Bytes of an average line."""
        stats = envelope.decode(self.get("/loki/api/v1/index/stats", asked, cancel=self.cancel).body, Stats)
        return max(1.0, stats.bytes / stats.entries) if stats.entries else LINE

    def count(self, window: Window) -> int:
        """How many lines the server counts in the window."""
        query = counting(self.pager.logql, window.length // MS)
        try:
            return self._counted(query, window)
        except BadQuery as error:
            if "pipeline error" not in str(error):
                raise
        return self._counted(counting(self.pager.logql, window.length // MS, forgiving=True), window)

    def _counted(self, query: str, window: Window) -> int:
        # A count covers (time - range, time], a log query [start, end): one nanosecond apart.
        params = {"query": query, "time": str(window.end - 1)}
        _, found = envelope.instant(self.get("/loki/api/v1/query", params, cancel=self.cancel))
        return int(sum(samples.values.sum() for samples in found.series.values()))

    def _mended(self, shards: list[Window], pages: list[Page]) -> list[Page]:
        """Ask again for the shards that differ from their count."""
        for _ in range(ROUNDS):
            counts = [self.count(shard) for shard in shards]
            wrong = [k for k, count in enumerate(counts) if count != len(pages[k])]
            if not wrong:
                return pages
            for k in wrong:
                pages[k] = self.pager.all(shards[k], self.cancel)
        differences = [self.count(shard) - len(page) for shard, page in zip(shards, pages, strict=True)]
        if not any(differences):
            return pages
        counted, came = sum(differences) + sum(map(len, pages)), sum(map(len, pages))
        kind = "missing" if counted > came else "too many"
        raise IncompleteAnswer(
            f"the server counts {counted} lines, {came} came: {abs(counted - came)} {kind}",
            fix="end the window some seconds ago when lines still arrive, or pass proven=False to see what came",
        )


def within_limit(window: Window) -> list[Window]:
    """Windows that are not longer than Loki allows, on whole milliseconds."""
    count = -(-window.length // LONGEST)
    edges = [window.start, *(part.end // MS * MS for part in window.parts(count)[:-1]), window.end]
    return [Window(first, last) for first, last in pairwise(edges)]


def cut(window: Window, found: envelope.Found, size: int) -> list[Window]:
    """Windows of about `size` bytes each, on whole milliseconds; `found` has bytes at each bucket's last moment."""
    volume: dict[int, float] = {}
    for samples in found.series.values():
        for time, value in zip(samples.times.tolist(), samples.values.tolist(), strict=True):
            volume[time] = volume.get(time, 0.0) + value
    times = np.array(sorted(volume), np.int64)
    total = np.cumsum([volume[time] for time in times.tolist()])
    if not len(total) or total[-1] <= size:
        return [window]
    wanted = np.arange(1, int(total[-1] // size) + 1) * size
    places = times[np.minimum(np.searchsorted(total, wanted), len(times) - 1)]
    inner = sorted({int(place) * MS for place in places if window.start < place * MS < window.end})
    edges = [window.start, *inner, window.end]
    return [Window(first, last) for first, last in pairwise(edges)]
