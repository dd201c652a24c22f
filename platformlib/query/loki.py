"""Loki's answers as DataFrames: every line, and proof of it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from platformlib.query import envelope, frames, ranges, streams
from platformlib.query.ask import ask
from platformlib.query.pages import PAGE, Pager
from platformlib.query.pool import WORKERS, Progress
from platformlib.query.ranges import MS, Plan, Shape
from platformlib.query.shards import Reader
from platformlib.query.tailing import follow
from platformlib.query.transport import TIMEOUT, Answer, Params, Transport, direct
from platformlib.query.window import Moment, Span, Window, moment, step_for, text, utc
from platformlib.query.window import window as window_of

Direction = Literal["forward", "backward"]
API = "/loki/api/v1"


class Loki:
    """One Loki server, by its URL or a transport; `tenant` names the tenant where there are several."""

    def __init__(
        self, server: str | Transport, *, tenant: str | None = None, timeout: float = TIMEOUT, page: int = PAGE
    ) -> None:
        self.transport: Transport = direct(server) if isinstance(server, str) else server
        self._headers = {"x-scope-orgid": tenant} if tenant else {}
        self._timeout, self._size = timeout, page

    def __repr__(self) -> str:
        return f"Loki({self.transport.name!r})"

    def lines(
        self,
        logql: str,
        window: Span | Window | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
        direction: Direction = "forward",
        proven: bool = True,
        labels: Sequence[str] = (),
        workers: int = WORKERS,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> pd.DataFrame:
        """Every line that a log query finds; or with `limit`, the first ones ("forward") or the last ("backward").

        Returns:
            Indexed by `time` (UTC, nanoseconds), sorted as `direction` says. Column `line`, then the labels, the
            structured metadata (such as detected_level) and what the query parsed, as categories.
            `.attrs`: query, window, lines, complete, proven, and which columns are `labels`, `metadata`, `parsed`.

        Raises:
            IncompleteAnswer: the server counts (`count_over_time`) another number of lines than came.
            BadQuery, SourceUnavailable, QueryCancelled, QueryError
        """
        span = _whole(window_of(window, start=start, end=end, now=self.transport.now()))
        pager = Pager(self._get, logql, size=self._size, timeout=self._timeout)
        if limit is None:
            found = Reader(self._get, pager, workers, progress, cancel).read(span, proven=proven)
        else:
            found = pager.first(span, limit, backward=direction == "backward", cancel=cancel)
        frame = streams.frame(found, backward=direction == "backward", labels=labels)
        frame.attrs |= {
            "query": logql,
            "window": (utc(span.start).isoformat(), utc(span.end).isoformat()),
            "unit": "lines",
            "lines": len(frame),
            "complete": limit is None or len(frame) < limit,
            "proven": proven and limit is None,
            "warnings": [],
            "source": "loki",
            "picture": "levels",
        }
        return frame

    def count(self, logql: str, window: Span | Window | None = None, **moments: Any) -> int:
        """How many lines the server counts, without reading them."""
        span = _whole(window_of(window, now=self.transport.now(), **moments))
        return Reader(self._get, Pager(self._get, logql), 1, None, None).count(span)

    def query(
        self, logql: str, time: Moment | None = None, *, unit: str = "", labels: Sequence[str] = ()
    ) -> pd.DataFrame:
        """A metric query's value at one moment: a column each label, then `value`."""
        now = self.transport.now()
        at = now if time is None else moment(time, now=now)
        _, found = envelope.instant(self._get(f"{API}/query", {"query": logql, "time": str(at)}))
        return _ours(ranges.about(frames.long(found.series, names=labels), found, query=logql, start=at), unit)

    def query_range(
        self,
        logql: str,
        window: Span | Window | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Span | None = None,
        shape: Shape = "wide",
        unit: str = "",
        labels: Sequence[str] = (),
        **how: Any,
    ) -> pd.DataFrame:
        """A metric query over a window; frames, arguments and errors as `Prometheus.query_range` has them."""
        plan = Plan.of(window, start=start, end=end, step=step, now=self.transport.now(), aligned=True)
        parts = ranges.fetch(self._get, f"{API}/query_range", logql, plan, **how)
        return _ours(ranges.frame(parts, logql, plan, shape, labels), unit)

    def volume(
        self, selector: str, window: Span | Window | None = None, *, by: Sequence[str] = (), step: Span | None = None
    ) -> pd.DataFrame:
        """Bytes that the index has for each bucket of time: wide, a column each value of the labels `by`. Estimated."""
        plan = Plan.of(window, step=step, now=self.transport.now())
        times = {"start": str(plan.window.start), "end": str(plan.window.end), "step": text(plan.step)}
        aim = {"targetLabels": ",".join(by), "aggregateBy": "series"} if by else {}
        found = envelope.matrix(self._get(f"{API}/index/volume_range", {"query": selector, **times, **aim}))
        wide = frames.wide([(np.empty(0, np.int64), found.series)], names=list(by))
        return _ours(ranges.about(wide, found, query=selector, plan=plan, start=plan.window.start), "bytes")

    def labels(self, window: Span | Window | None = None) -> list[str]:
        """All label names in the window."""
        return list(self._plain("labels", self._between(window)) or ())

    def label_values(self, label: str, window: Span | Window | None = None) -> list[str]:
        """All values of one label in the window."""
        return list(self._plain(f"label/{label}/values", self._between(window)) or ())

    def series(self, selector: str, window: Span | Window | None = None) -> pd.DataFrame:
        """The streams that a selector finds: a row each stream, a column each label."""
        found = self._plain("series", {"match[]": selector, **self._between(window)}) or ()
        return frames.rows(found, sorted({name for row in found for name in row}))

    def detected_fields(self, logql: str, window: Span | Window | None = None) -> pd.DataFrame:
        """What Loki finds inside of lines: columns label, type, cardinality, parsers."""
        answer = self._get(f"{API}/detected_fields", {"query": logql, **self._between(window)})
        found = envelope.decode(answer.body, dict[str, Any]).get("fields") or ()
        return frames.rows(found, ["label", "type", "cardinality", "parsers"])

    def patterns(self, selector: str, window: Span | Window | None = None, *, step: Span | None = None) -> pd.DataFrame:
        """How often each shape of line occurs: indexed by time; columns level, pattern, count."""
        span = window_of(window, now=self.transport.now())
        width = text(step_for(span.length)) if step is None else str(step)
        found = self._plain("patterns", {"query": selector, "step": width, **self._between(span)}) or ()
        rows = [(time, row.get("level", ""), row["pattern"], n) for row in found for time, n in row["samples"]]
        frame = pd.DataFrame(rows, columns=["time", "level", "pattern", "count"])
        times = frame.pop("time").to_numpy(np.int64) * 1000
        return frame.set_index(frames.index(times)).sort_index()

    def tail(
        self,
        logql: str,
        *,
        seconds: float | None = None,
        until: Callable[[pd.DataFrame], bool] | None = None,
        every: float = 1.0,
        cancel: threading.Event | None = None,
    ) -> Iterator[pd.DataFrame]:
        """New lines as they arrive, frame by frame; ends after `seconds`, when `until(frame)` holds, or on `cancel`."""
        return follow(self, logql, seconds=seconds, until=until, every=every, cancel=cancel)

    def now(self) -> int:
        """The clock that relative windows count from, in nanoseconds."""
        return self.transport.now()

    def ready(self) -> bool:
        """Whether the server answers queries now."""
        return self.transport.get("/ready", {}, timeout=5).status == 200  # noqa: PLR2004

    def _get(self, path: str, params: Params, **how: Any) -> Answer:
        headers = {**self._headers, **how.pop("headers", {})}
        return ask(self.transport, path, params, headers=headers, **{"timeout": self._timeout, **how})

    def _plain(self, path: str, params: Params) -> Any:
        return envelope.plain(self._get(f"{API}/{path}", params))[0]

    def _between(self, window: Span | Window | None) -> dict[str, str]:
        span = window_of(window, now=self.transport.now())
        return {"start": str(span.start), "end": str(span.end)}


def _whole(window: Window) -> Window:
    """The window on whole milliseconds, the finest that LogQL can count."""
    return Window(window.start // MS * MS, -(-window.end // MS) * MS)


def _ours(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    frame.attrs |= {"unit": unit, "source": "loki"}
    return frame
