"""When a trouble has become final, and what else the cluster has to say of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from platformlib.errors import KubeError
from platformlib.kube import events
from platformlib.kube.api import Api
from platformlib.kube.objects import Reference
from platformlib.kube.pods import CRASHES, Trouble, selected
from platformlib.kube.readiness import Readiness

LINES = 8  # log lines of a crashed container
Key = tuple[Reference, str, str, str]


@dataclass
class Watch:
    """Remembers since when each trouble lasts, and how many restarts a container had at first sight."""

    _since: dict[Key, float] = field(default_factory=dict)
    _restarts: dict[tuple[str, str], int] = field(default_factory=dict)

    def final(self, ref: Reference, trouble: Trouble | None, now: float) -> bool:
        """Whether the trouble has outlasted its grace. `now` is in seconds of any steady clock."""
        key = (ref, trouble.topic, trouble.pod, trouble.container) if trouble else None
        # What was interrupted starts anew.
        self._since = {known: since for known, since in self._since.items() if known[0] != ref or known == key}
        if trouble is None or key is None:
            return False
        since = self._since.setdefault(key, now)
        return self._crashed(trouble) or (trouble.grace is not None and now - since >= trouble.grace)

    def _crashed(self, trouble: Trouble) -> bool:
        """A crash loop is final after some restarts, if one more was seen: it may be an old one, mended just now."""
        if not trouble.crashing:
            return False
        first = self._restarts.setdefault((trouble.pod, trouble.container), trouble.restarts)
        return trouble.restarts >= CRASHES and trouble.restarts > first


def explain(api: Api, ref: Reference, state: Readiness) -> str:
    """The newest warning of the object or its pods, and the last lines of a container that crashed."""
    try:
        return "".join([_warning(api, ref), _last_words(api, ref, state.trouble)])
    except KubeError:
        return ""  # the cause itself has been named; this would have been more of it


def _warning(api: Api, ref: Reference) -> str:
    if not ref.namespace:
        return ""
    live = api.get(ref) or {}
    selector = (live.get("spec") or {}).get("selector")
    # A Service's selector is a plain mapping: its pods are told of by their own workload.
    pods = selected(api.list("v1", "Pod", ref.namespace), selector) if ref.kind != "Service" else []
    names = [pod["metadata"]["name"] for pod in pods] + ([ref.name] if ref.kind == "Pod" else [])
    event = events.newest(events.of_namespace(api, ref.namespace), ref.kind, ref.name, names)
    if event is None:
        return ""
    age = (datetime.now(UTC) - events.seen_at(event)).total_seconds()
    return f"\n      last warning, {age:.0f} s ago: {event.get('reason')}: {(event.get('message') or '').strip()}"


def _last_words(api: Api, ref: Reference, trouble: Trouble | None) -> str:
    if not (trouble and trouble.crashing):
        return ""
    for previous in (True, False):
        try:
            text = events.logs(api, ref.namespace, trouble.pod, trouble.container, tail=LINES, previous=previous)
        except KubeError:
            continue
        return "".join(f"\n      | {line}" for line in text.splitlines()[-LINES:])
    return ""
