"""Kubernetes events and objects' histories as frames of one shape, to stand beside metrics and logs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from platformlib.durations import SECOND
from platformlib.query.history import HISTORIES, Row
from platformlib.query.objects import Lister, Object, Objects
from platformlib.query.window import Moment, Span, Window, utc
from platformlib.query.window import window as window_of

COLUMNS = ["kind", "namespace", "object", "what", "severity", "source", "detail"]
SEVERITIES = ["info", "warning", "error"]
FATAL = frozenset({"OOMKilling", "SystemOOM", "Evicted", "FailedMount", "NodeNotReady", "BackOff"})


class Events:
    """What happened in a cluster; `source` is a Kube, or makes one (never called when recordings are replayed)."""

    def __init__(self, source: Lister | Callable[[], Lister]) -> None:
        self._objects = Objects(source if callable(source) else lambda: source)

    def now(self) -> int:
        """The clock that relative windows count from."""
        return self._objects.now()

    def all(self, window: Span | Window | None = None, **moments: Moment) -> pd.DataFrame:
        """Events and object history together.

        Returns:
            Indexed by `time` (UTC), sorted: kind, namespace, object, what, severity (info, warning, error),
            source (event, status), detail.
        """
        return self._frame([*self._reported(), *self._history()], window, **moments)

    def reported(self, window: Span | Window | None = None, **moments: Moment) -> pd.DataFrame:
        """What Kubernetes kept of its Event objects: an hour's, unless the API server was told otherwise."""
        return self._frame(self._reported(), window, **moments)

    def warnings(self, window: Span | Window | None = None, **moments: Moment) -> pd.DataFrame:
        """Events of the type Warning."""
        return self._frame([row for row in self._reported() if row[5] != "info"], window, **moments)

    def history(self, window: Span | Window | None = None, **moments: Moment) -> pd.DataFrame:
        """Rollouts, restarts, OOM kills, conditions and jobs, as the objects themselves remember them."""
        return self._frame(self._history(), window, **moments)

    def _reported(self) -> list[Row]:
        return [event(one) for one in self._objects.list("v1", "Event")]

    def _history(self) -> list[Row]:
        return [
            row
            for (version, kind), tellers in HISTORIES.items()
            for one in self._objects.list(version, kind)
            for teller in tellers
            for row in teller({"kind": kind, **one})
        ]

    def _frame(self, rows: Iterable[Row], span: Span | Window | None, **moments: Moment) -> pd.DataFrame:
        whole = window_of(span, now=self.now(), **moments)
        frame = pd.DataFrame(rows, columns=["time", *COLUMNS], dtype="str")
        times = pd.to_datetime(frame.pop("time"), utc=True, format="ISO8601").astype(pd.DatetimeTZDtype("ns", "UTC"))
        frame["severity"] = pd.Categorical(frame["severity"], SEVERITIES, ordered=True)
        index = pd.DatetimeIndex(times, name="time")
        # An event of this very second belongs to a window that ends now.
        kept = (index.asi8 >= whole.start) & (index.asi8 < whole.end + SECOND)
        frame = pd.DataFrame(frame.set_index(index).loc[kept]).sort_index(kind="stable")
        moments_of = (utc(whole.start).isoformat(), utc(whole.end).isoformat())
        frame.attrs |= {"window": moments_of, "unit": "", "picture": "lanes", "source": "kubernetes"}
        frame.attrs |= {"warnings": [], "complete": True}
        return frame


def event(obj: Object) -> Row:
    """A row of an Event, at the time when it happened last."""
    involved: Mapping[str, Any] = obj.get("involvedObject") or obj.get("regarding") or {}
    reason, meta = str(obj.get("reason") or "Unknown"), obj["metadata"]
    series = obj.get("series") or {}
    time = (
        series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("eventTime") or meta["creationTimestamp"]
    )
    times = int(series.get("count") or obj.get("count") or 1)
    said = str(obj.get("message") or obj.get("note") or "").strip()
    severity = "info" if obj.get("type") == "Normal" else "error" if reason in FATAL else "warning"
    detail = f"{said} ({times} times)" if times > 1 else said
    place = str(involved.get("namespace") or ""), str(involved.get("name") or "")
    return (str(time), str(involved.get("kind") or ""), *place, reason, severity, "event", detail)
