"""Kubernetes events and objects' histories as frames of one shape, to stand beside metrics and logs."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from platformlib.durations import SECOND
from platformlib.query.history import HISTORIES, Row
from platformlib.query.objects import Lister, Object, Objects
from platformlib.query.window import Moment, Span, Window, utc
from platformlib.query.window import window as window_of

COLUMNS = ["kind", "namespace", "object", "what", "severity", "source", "detail"]
SEVERITIES = ["info", "warning", "error"]
Names = str | Collection[str] | None
FATAL = frozenset({"OOMKilling", "SystemOOM", "Evicted", "FailedMount", "NodeNotReady", "BackOff"})


class Events:
    """What happened in a cluster; `source` is a Kube, or makes one (never called when recordings are replayed)."""

    def __init__(self, source: Lister | Callable[[], Lister]) -> None:
        self._objects = Objects(source if callable(source) else lambda: source)

    def now(self) -> int:
        """The clock that relative windows count from."""
        return self._objects.now()

    def all(self, window: Span | Window | None = None, *, namespace: Names = None, object: str = "",
            **moments: Moment) -> pd.DataFrame:  # fmt: skip
        """Events and object history together.

        Args:
            window: as in every query.
            namespace: one, or several; default: all, and what belongs to none.
            object: only objects whose name contains this text.

        Returns:
            Indexed by `time` (UTC), sorted: kind, namespace, object, what, severity (info, warning, error),
            source (event, status), detail.
        """
        rows = [*self._reported(), *self._history()]
        return self._frame(chosen(rows, namespace, object), window, **moments)

    def reported(self, window: Span | Window | None = None, *, namespace: Names = None, object: str = "",
                 **moments: Moment) -> pd.DataFrame:  # fmt: skip
        """What Kubernetes kept of its Event objects: an hour's, unless the API server was told otherwise."""
        return self._frame(chosen(self._reported(), namespace, object), window, **moments)

    def warnings(self, window: Span | Window | None = None, *, namespace: Names = None, object: str = "",
                 **moments: Moment) -> pd.DataFrame:  # fmt: skip
        """Events of the type Warning."""
        rows = [row for row in self._reported() if row[5] != "info"]
        return self._frame(chosen(rows, namespace, object), window, **moments)

    def history(self, window: Span | Window | None = None, *, namespace: Names = None, object: str = "",
                **moments: Moment) -> pd.DataFrame:  # fmt: skip
        """Rollouts, restarts, OOM kills, conditions and jobs, as the objects themselves remember them."""
        return self._frame(chosen(self._history(), namespace, object), window, **moments)

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


def chosen(rows: Iterable[Row], namespace: Names, object: str) -> list[Row]:
    """The rows of some namespaces, about objects whose name contains a text."""
    spaces = {namespace} if isinstance(namespace, str) else set(namespace) if namespace is not None else None
    return [row for row in rows if (spaces is None or row[2] in spaces) and object in row[3]]


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
