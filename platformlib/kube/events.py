"""What the cluster says of itself: its events, and the last lines of its containers."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platformlib.kube.api import Api
from platformlib.kube.batch import frame
from platformlib.kube.objects import Object, Objects, Reference

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("time", "type", "reason", "kind", "namespace", "name", "count", "message")
WARNINGS = "type=Warning"


def logs(
    api: Api, namespace: str, pod: str, container: str | None = None, *, tail: int = 100, previous: bool = False
) -> str:
    """The last lines of a container, or of its previous run."""
    options = {"container": container, "tailLines": str(tail), "previous": str(previous).lower()}
    return str(api.call("GET", Reference("v1", "Pod", namespace, pod), subresource="log", **options).text)


def events(api: Api, namespace: str = "", *, warnings: bool = False) -> "pd.DataFrame":
    """See `Kube.events`."""
    import pandas as pd

    found = api.list("v1", "Event", namespace, fieldSelector=WARNINGS if warnings else None)
    table = frame((_row(event) for event in sorted(found, key=seen_at)), COLUMNS)
    return table.assign(time=pd.to_datetime(table["time"], utc=True))


def seen_at(event: Object) -> datetime:
    """When an event was last seen; the several APIs of events write this into several fields."""
    series = event.get("series") or {}
    stamps = (
        series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )  # fmt: skip
    newest = max(filter(None, stamps), default="1970-01-01T00:00:00Z")
    return datetime.fromisoformat(newest).astimezone(UTC)


def newest(events: Iterable[Object], kind: str, name: str, parts: Iterable[str]) -> Object | None:
    """The newest event of an object, of its pods, or of what stands between (a Deployment's ReplicaSets)."""
    pods = set(parts)
    return max((event for event in events if _about(event, kind, name, pods)), key=seen_at, default=None)


def _about(event: Object, kind: str, name: str, pods: set[str]) -> bool:
    about = event["involvedObject"]
    if about.get("kind") == "Pod":
        return about.get("name") in pods
    # Made names end in one word: web-5d4f is of web, web-api-5d4f is not.
    made = re.fullmatch(f"{re.escape(name)}-[a-z0-9]+", str(about.get("name")))
    return (about.get("kind") in ("ReplicaSet", "Job") and bool(made)) or (about.get("kind"), about.get("name")) == (
        kind,
        name,
    )


def of_namespace(api: Api, namespace: str) -> Objects:
    """The warnings of one namespace."""
    return api.list("v1", "Event", namespace, fieldSelector=WARNINGS)


def _row(event: Object) -> dict[str, Any]:
    about, series = event["involvedObject"], event.get("series") or {}
    return {
        "time": seen_at(event),
        "type": event.get("type"),
        "reason": event.get("reason"),
        "kind": about.get("kind"),
        "namespace": about.get("namespace", ""),
        "name": about.get("name"),
        "count": series.get("count") or event.get("count") or 1,
        "message": (event.get("message") or "").strip(),
    }
