"""Prometheus's answers as DataFrames; a PrometheusConnect that also keeps all that people's code already uses."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from prometheus_api_client.prometheus_connect import PrometheusConnect

from platformlib.errors import QueryError
from platformlib.query import envelope, frames, tables
from platformlib.query.ask import ask
from platformlib.query.envelope import Labels
from platformlib.query.histograms import histogram_frame
from platformlib.query.pool import WORKERS, Progress, in_parallel
from platformlib.query.samples import LATEST, Moments, Samples, number
from platformlib.query.session import Adapter, Requests
from platformlib.query.transport import TIMEOUT, Answer, Transport
from platformlib.query.window import SECOND, Moment, Span, Window, duration, moment, step_for, text, utc, window

POINTS_LIMIT = 11_000  # Prometheus refuses more points of one series in one query
MS = SECOND // 1000
SUFFIXES = {"seconds": "seconds", "bytes": "bytes", "ratio": "ratio", "celsius": "celsius", "percent": "percent"}
Part = tuple[Moments, envelope.Found]


class Prometheus(PrometheusConnect):
    """One Prometheus server.

    Made like `PrometheusConnect(url, ...)`, or with a transport: `Prometheus(transport=connect(...))`; then its
    inherited methods travel through that transport too.
    """

    def __init__(self, url: str | None = None, *args: Any, transport: Transport | None = None, **options: Any) -> None:
        url = url or ("http://prometheus" if transport else "http://127.0.0.1:9090")
        super().__init__(url, *args, **{"timeout": TIMEOUT, **options})
        if transport is not None:
            self._session.mount(self.url, Adapter(transport, self.url))
        self.transport: Transport = transport or self._own_transport()

    def __repr__(self) -> str:
        return f"Prometheus({self.transport.name!r})"

    def _own_transport(self) -> Transport:
        given = {"headers": self.headers, "auth": self.auth, "cert": self._session.cert, "verify": self._session.verify}
        return Requests(self._session, self.url, **given)

    def query(self, promql: str, time: Moment | None = None, *, unit: str | None = None, **how: Any) -> pd.DataFrame:
        """The value of each series at one moment (default: now).

        Returns:
            Indexed by `time`; a column each label, then `value`. A range selector such as `up[5m]` gives each sample.
            Native histograms are left out; `.attrs["warnings"]` says so.

        Raises:
            BadQuery, SourceUnavailable, QueryError
        """
        now = self.transport.now()
        at = now // MS * MS if time is None else moment(time, now=now)
        answer = self._get("/api/v1/query", {"query": promql, "time": _seconds(at)}, **how)
        kind, found = envelope.instant(answer)
        frame = frames.long(found.series) if kind in ("vector", "matrix") else _literal(kind, answer)
        return _about(frame, found, query=promql, start=at, end=at, unit=unit)

    def query_range(
        self,
        promql: str,
        window: Span | Window | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Span | None = None,
        shape: Literal["wide", "long"] = "wide",
        unit: str | None = None,
        labels: Sequence[str] = (),
        workers: int = WORKERS,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        **how: Any,
    ) -> pd.DataFrame:
        """Each series over a window: `window="1h"` up to now, or `start` to `end`.

        Args:
            step: between two points; default gives about 300 of them. Above 10,999 steps the window is split.
            shape: "wide", a column each series and a row each evaluation time, gaps NaN; or "long", a row each sample.
            labels: columns of an empty answer.

        Returns:
            float64 with a UTC index `time`, sorted; `.attrs`: query, window, step, unit, warnings, complete.

        Raises:
            BadQuery, SourceUnavailable, QueryCancelled, QueryError
        """
        span, width, parts = self._plan(window, start, end, step)
        asked = in_parallel(
            lambda part, stop: self._part(promql, part, width, cancel=stop, **how),
            parts, workers=workers, progress=progress, cancel=cancel,
        )  # fmt: skip
        found = _joined(asked)
        if shape == "wide":
            frame = frames.wide([(grid, part.series) for grid, part in asked], names=labels)
        else:
            frame = frames.long(found.series, names=labels)
        first = int(asked[0][0][0]) * MS
        return _about(frame, found, query=promql, start=first, end=first + span.length, step=width, unit=unit)

    def histograms(self, promql: str, window: Span | Window | None = None, **how: Any) -> pd.DataFrame:
        """Native histograms over a window, a row each bucket: labels, count, sum, lower, upper, bucket."""
        keys = ("start", "end", "step")
        span, width, parts = self._plan(window, *(how.pop(key, None) for key in keys))
        asked = in_parallel(lambda part, stop: self._part(promql, part, width, cancel=stop, **how), parts)
        found = _joined(asked)
        return _about(
            histogram_frame(found.histograms), found, query=promql, start=span.start, end=span.end, step=width
        )

    def series(self, *match: str, window: Span | Window | None = None, limit: int = 0, **how: Any) -> pd.DataFrame:
        """The label sets that `match` selectors find: a row each series, a column each label."""
        content, notes = self._list("/api/v1/series", window, limit, match, **how)
        names = sorted({name for row in content for name in row})
        return tables.about(frames.rows(content, names), notes)

    def labels(self, *match: str, window: Span | Window | None = None, limit: int = 0, **how: Any) -> list[str]:
        """All label names."""
        return list(self._list("/api/v1/labels", window, limit, match, **how)[0])

    def label_values(
        self, label: str, *match: str, window: Span | Window | None = None, limit: int = 0, **how: Any
    ) -> list[str]:
        """All values of one label."""
        return list(self._list(f"/api/v1/label/{label}/values", window, limit, match, **how)[0])

    def metadata(self, metric: str = "", **how: Any) -> pd.DataFrame:
        """Type, unit and help of each metric: columns metric, type, unit, help."""
        return tables.metadata(*self._plain("/api/v1/metadata", {"metric": metric} if metric else {}, **how))

    def targets(self, **how: Any) -> pd.DataFrame:
        """What is scraped, a row each target: job, instance, node, path, health, scraped, seconds, error, url."""
        return tables.targets(*self._plain("/api/v1/targets", {"state": "active"}, **how))

    def rules(self, **how: Any) -> pd.DataFrame:
        """Recording and alerting rules: columns group, name, type, state, health, query, seconds, evaluated, error."""
        return tables.rules(*self._plain("/api/v1/rules", {}, **how))

    def alerts(self, **how: Any) -> pd.DataFrame:
        """Alerts that are pending or firing now: columns active, name, state, severity, value, labels, summary."""
        return tables.alerts(*self._plain("/api/v1/alerts", {}, **how))

    def exemplars(self, promql: str, window: Span | Window | None = None, **how: Any) -> pd.DataFrame:
        """Exemplars of a query's series: indexed by time; columns series, exemplar, value."""
        params = {"query": promql, **self._between(window)}
        return tables.exemplars(*self._plain("/api/v1/query_exemplars", params, **how))

    def ready(self) -> bool:
        """Whether the server answers queries now."""
        return self.transport.get("/-/ready", {}, timeout=5).status == 200  # noqa: PLR2004

    def _plan(
        self, span: Span | Window | None, start: Moment | None, end: Moment | None, step: Span | None
    ) -> tuple[Window, int, list[Window]]:
        whole = window(span, start=start, end=end, now=self.transport.now())
        width = max(MS, duration(step) if step is not None else step_for(whole.length))
        longest = (POINTS_LIMIT - 1) * width
        # The end belongs to the window, so the last part may be a single moment: it is given a nanosecond of length.
        starts = range(whole.start, whole.end + 1, longest + width)
        ends = [min(first + longest, whole.end) for first in starts]
        return whole, width, [Window(a, max(b, a + 1)) for a, b in zip(starts, ends, strict=True)]

    def _part(self, promql: str, part: Window, width: int, **how: Any) -> Part:
        params = {"query": promql, "start": _seconds(part.start), "end": _seconds(part.end), "step": _seconds(width)}
        answer = self._get("/api/v1/query_range", params, **how)
        first, last = (round(float(str(answer.params[key])) * 1000) for key in ("start", "end"))
        grid = np.arange(first, last + 1, width // MS, dtype=np.int64)
        found = envelope.matrix(answer)
        frames.within(found.series, first - width // MS, last + width // MS)
        return grid, found

    def _get(self, path: str, params: Mapping[str, Any], **how: Any) -> Answer:
        timeout = float(how.pop("timeout", None) or self._timeout or TIMEOUT)
        return ask(self.transport, path, {**params, **how.pop("params", {})}, timeout=timeout, **how)

    def _plain(self, path: str, params: Mapping[str, Any], **how: Any) -> tuple[Any, tuple[str, ...]]:
        return envelope.plain(self._get(path, params, **how))

    def _list(
        self, path: str, span: Span | Window | None, limit: int, match: Sequence[str], **how: Any
    ) -> tuple[Any, tuple[str, ...]]:
        params: dict[str, Any] = {"match[]": list(match)} if match else {}
        params |= self._between(span) if span is not None else {}
        return self._plain(path, params | ({"limit": str(limit)} if limit else {}), **how)

    def _between(self, span: Span | Window | None) -> dict[str, str]:
        whole = window(span, now=self.transport.now())
        return {"start": _seconds(whole.start), "end": _seconds(whole.end)}


def _seconds(nanoseconds: int) -> str:
    """Seconds as Prometheus reads them, exact to the millisecond."""
    whole, rest = divmod(nanoseconds // MS, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


def _joined(parts: Sequence[Part]) -> envelope.Found:
    """The parts as one: samples of one series follow each other."""
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


def _literal(kind: str, answer: Answer) -> pd.DataFrame:
    seconds, content = envelope.literal(answer)
    if abs(seconds) * 1000 >= LATEST:
        raise QueryError("an answer whose time is no time")
    value = number(content) if kind == "scalar" else content
    return pd.DataFrame({"value": [value]}, index=frames.index(np.array([round(seconds * 1000)], np.int64)))


def _about(
    frame: pd.DataFrame,
    found: envelope.Found,
    *,
    query: str,
    start: int,
    end: int,
    step: int | None = None,
    unit: str | None = None,
) -> pd.DataFrame:
    notes = list(found.notes)
    if found.histograms and "bucket" not in frame.columns:
        notes.append(f"{len(found.histograms)} native histograms are left out: see Prometheus.histograms()")
    frame.attrs |= {
        "query": query,
        "window": (utc(start).isoformat(), utc(end).isoformat()),
        "step": text(step) if step else None,
        "unit": guess(query) if unit is None else unit,
        "warnings": notes,
        "complete": not any("truncated" in note for note in notes),
        "source": "prometheus",
    }
    return frame


def guess(promql: str) -> str:
    """The unit that a metric's name tells, when all of a query's metrics tell the same one; else nothing."""
    tail = {SUFFIXES.get(name.rsplit("_", 1)[-1].removesuffix("total")) for name in re.findall(r"[a-z]\w*_\w+", promql)}
    plain = not re.search(r"\b(rate|irate|count|count_values|changes|resets|deriv)\b|/", promql)
    return str(tail.pop() or "") if len(tail) == 1 and plain else ""
