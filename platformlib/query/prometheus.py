"""Prometheus's answers as DataFrames; a PrometheusConnect that also keeps all that people's code already uses."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from prometheus_api_client.prometheus_connect import PrometheusConnect

from platformlib.errors import QueryError
from platformlib.query import envelope, frames, ranges, tables
from platformlib.query.ask import ask
from platformlib.query.histograms import histogram_frame
from platformlib.query.pool import WORKERS, Progress
from platformlib.query.ranges import MS, Plan, Shape, seconds
from platformlib.query.samples import LATEST, number
from platformlib.query.session import Adapter, Requests
from platformlib.query.transport import TIMEOUT, Answer, Transport
from platformlib.query.window import Moment, Span, Window, moment
from platformlib.query.window import window as window_of

SUFFIXES = {"seconds": "seconds", "bytes": "bytes", "ratio": "ratio", "celsius": "celsius", "percent": "percent"}


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

    def query(
        self,
        promql: str,
        time: Moment | None = None,
        *,
        unit: str | None = None,
        labels: Sequence[str] = (),
        **how: Any,
    ) -> pd.DataFrame:
        """The value of each series at one moment (default: now).

        Returns:
            Indexed by `time`; a column each label, then `value`. A range selector such as `up[5m]` gives each sample.
            Native histograms are left out; `.attrs["warnings"]` says so.

        Raises:
            BadQuery, SourceUnavailable, QueryError
        """
        now = self.transport.now()
        at = now // MS * MS if time is None else moment(time, now=now)
        answer = self._get("/api/v1/query", {"query": promql, "time": seconds(at)}, **how)
        kind, found = envelope.instant(answer)
        frame = frames.long(found.series, names=labels) if kind in ("vector", "matrix") else _literal(kind, answer)
        return _ours(ranges.about(frame, found, query=promql, start=at), promql, unit)

    def query_range(
        self,
        promql: str,
        window: Span | Window | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Span | None = None,
        shape: Shape = "wide",
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
        plan = Plan.of(window, start=start, end=end, step=step, now=self.transport.now())
        how |= {"workers": workers, "progress": progress, "cancel": cancel}
        parts = ranges.fetch(self._get, "/api/v1/query_range", promql, plan, **how)
        return _ours(ranges.frame(parts, promql, plan, shape, labels), promql, unit)

    def histograms(self, promql: str, window: Span | Window | None = None, **how: Any) -> pd.DataFrame:
        """Native histograms over a window, a row each bucket: labels, count, sum, lower, upper, bucket."""
        keys = ("start", "end", "step")
        plan = Plan.of(window, now=self.transport.now(), **{key: how.pop(key, None) for key in keys})
        parts = ranges.fetch(self._get, "/api/v1/query_range", promql, plan, **how)
        found = ranges.joined(parts)
        made = histogram_frame(found.histograms)
        return _ours(ranges.about(made, found, query=promql, plan=plan, start=int(parts[0][0][0]) * MS), promql, None)

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

    def check_prometheus_connection(self, params: Any = None) -> bool:
        """Whether the server answers; asks `/-/ready`, since a server need not carry the web interface at `/`."""
        return self.transport.get("/-/ready", params or {}, timeout=float(self._timeout or TIMEOUT)).status < 400  # noqa: PLR2004

    def now(self) -> int:
        """The clock that relative windows count from, in nanoseconds."""
        return self.transport.now()

    def ready(self) -> bool:
        """Whether the server answers queries now."""
        return self.transport.get("/-/ready", {}, timeout=5).status == 200  # noqa: PLR2004

    def _get(
        self,
        path: str,
        asked: Mapping[str, Any],
        /,
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        **how: Any,
    ) -> Answer:
        """`params` are the caller's own, such as `limit` or the server's `timeout`."""
        longest = float(timeout or self._timeout or TIMEOUT)
        return ask(self.transport, path, {**asked, **(params or {})}, timeout=longest, **how)

    def _plain(self, path: str, params: Mapping[str, Any], **how: Any) -> tuple[Any, tuple[str, ...]]:
        return envelope.plain(self._get(path, params, **how))

    def _list(
        self, path: str, span: Span | Window | None, limit: int, match: Sequence[str], **how: Any
    ) -> tuple[Any, tuple[str, ...]]:
        params: dict[str, Any] = {"match[]": list(match)} if match else {}
        params |= self._between(span) if span is not None else {}
        content, notes = self._plain(path, params | ({"limit": str(limit)} if limit else {}), **how)
        if not isinstance(content, list):
            raise QueryError(f"{path}: an answer that is no list")
        return content, notes

    def _between(self, span: Span | Window | None) -> dict[str, str]:
        whole = window_of(span, now=self.transport.now())
        return {"start": seconds(whole.start), "end": seconds(whole.end)}


def _literal(kind: str, answer: Answer) -> pd.DataFrame:
    seconds, content = envelope.literal(answer)
    if abs(seconds) * 1000 >= LATEST:
        raise QueryError("an answer whose time is no time")
    value = number(content) if kind == "scalar" else content
    return pd.DataFrame({"value": [value]}, index=frames.index(np.array([round(seconds * 1000)], np.int64)))


def _ours(frame: pd.DataFrame, query: str, unit: str | None) -> pd.DataFrame:
    frame.attrs |= {"unit": guess(query) if unit is None else unit, "source": "prometheus"}
    return frame


def guess(promql: str) -> str:
    """The unit that a metric's name tells, when all of a query's metrics tell the same one; else nothing."""
    tail = {SUFFIXES.get(name.rsplit("_", 1)[-1].removesuffix("total")) for name in re.findall(r"[a-z]\w*_\w+", promql)}
    plain = not re.search(r"\b(rate|irate|count|count_values|changes|resets|deriv)\b|/", promql)
    return str(tail.pop() or "") if len(tail) == 1 and plain else ""
