"""Waiting with a deadline that fails early, and that always says what for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platformlib.errors import ApiError, KubeError, TerminalCondition, WaitTimeout
from platformlib.kube import events
from platformlib.kube.api import Api, UnknownKindError
from platformlib.kube.objects import Objects, Reference
from platformlib.kube.pods import CRASHES, Trouble, selected
from platformlib.kube.readiness import Readiness, assess
from platformlib.kube.report import OnEvent, Progress, frame

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "ready", "seconds", "detail")
EAGER, INTERVAL, REPORT = 0.2, 1.0, 5.0  # seconds between the first polls, between later ones, between reports
SHOWN = 3  # objects that a report names
FORBIDDEN, SERVER_ERROR = 403, 500
SETTLING = 15.0  # seconds in which an API server that has just booted refuses all, until it has read its rules
SELECTORS = {"Event": events.WARNINGS}
FIX = "mend the cause, then run again: what is ready already is not touched"


LINES = 8  # log lines of a crashed container
Key = tuple[Reference, str, str, str]


@dataclass
class FailureTracker:
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


class Snapshot:
    """The cluster at one moment: each kind is listed once, when it is first asked for."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._lists: dict[tuple[str, str, str], Objects] = {}

    def list(self, api_version: str, kind: str, namespace: str = "") -> Objects:
        """Every object of a kind in a namespace, or in the cluster; of events, the warnings."""
        key = (api_version, kind, namespace)
        if key not in self._lists:
            try:
                self._lists[key] = self.api.list(api_version, kind, namespace, fieldSelector=SELECTORS.get(kind))
            except UnknownKindError:
                self._lists[key] = []
        return self._lists[key]

    def assess(self, ref: Reference) -> Readiness:
        """How far the object is."""
        listed = self.list(ref.api_version, ref.kind, ref.namespace)
        return assess(next((obj for obj in listed if obj["metadata"]["name"] == ref.name), None), self)


class Waiting:
    """What is known of every object while it is waited for."""

    def __init__(self, refs: Sequence[Reference]) -> None:
        self.began = time.monotonic()
        self.states = {ref: Readiness(False, "not looked at yet") for ref in refs}
        self.seconds = dict.fromkeys(refs, 0.0)
        self.failures = FailureTracker()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def pending(self) -> list[Reference]:
        """Those that are not ready."""
        return [ref for ref, state in self.states.items() if not state.ready]

    def look(self, api: Api) -> list[Reference]:
        """One poll; returns those that can never become ready."""
        snapshot = Snapshot(api)
        for ref in self.pending:
            self.states[ref], self.seconds[ref] = snapshot.assess(ref), self.elapsed
        return [ref for ref in self.pending if self.failures.final(ref, self.states[ref].trouble, self.elapsed)]

    def table(self) -> "pd.DataFrame":
        """The result table as it stands."""
        return frame(
            (
                {**ref.row, "ready": state.ready, "seconds": round(self.seconds[ref], 1), "detail": _line(state)}
                for ref, state in self.states.items()
            ),
            COLUMNS,
        )

    def report(self) -> Progress:
        """Who is not ready, and why."""
        waiting = "; ".join(f"{ref}: {_line(self.states[ref])}" for ref in self.pending[:SHOWN])
        more = f"; and {len(self.pending) - SHOWN} more" if len(self.pending) > SHOWN else ""
        done = len(self.states) - len(self.pending)
        return Progress("wait", done, len(self.states), self.elapsed, (waiting + more) or "all ready")


def _line(state: Readiness) -> str:
    return f"{state.detail}; {state.trouble.detail}" if state.trouble else state.detail


def wait(api: Api, refs: Sequence[Reference], *, timeout: float, on_event: OnEvent | None = None) -> "pd.DataFrame":
    """See `Kube.wait`."""
    waiting, tell = Waiting(sorted(set(refs), key=lambda ref: (ref.rank, ref))), _teller(on_event)
    while True:
        final = _look(api.with_retry_timeout(min(REPORT, timeout)), waiting)
        if final:
            raise TerminalCondition(_message(api, waiting, final, "can never become"), table=waiting.table(), fix=FIX)
        tell(waiting)
        if not waiting.pending:
            return waiting.table()
        if waiting.elapsed >= timeout:
            heading = f"after {timeout:.0f} s still not"
            raise WaitTimeout(_message(api, waiting, waiting.pending, heading), table=waiting.table(), fix=FIX)
        time.sleep(max(0.0, min(_pause(waiting.elapsed), timeout - waiting.elapsed)))


def _pause(elapsed: float) -> float:
    """What is ready soon is seen soon; what takes minutes is not asked for five times a second."""
    return min(INTERVAL, max(EAGER, elapsed / 10))


def _look(api: Api, waiting: Waiting) -> list[Reference]:
    """A server that is away for a moment is a cause to name, not a reason to give up before the deadline."""
    try:
        return waiting.look(api)
    except KubeError as error:
        if isinstance(error, ApiError) and not _may_pass(error, waiting.elapsed):
            raise
        for ref in waiting.pending:
            waiting.states[ref] = Readiness(False, str(error).splitlines()[0])
        return []


def _may_pass(error: ApiError, elapsed: float) -> bool:
    return error.status >= SERVER_ERROR or (error.status == FORBIDDEN and elapsed < SETTLING)


def _message(api: Api, waiting: Waiting, refs: Sequence[Reference], heading: str) -> str:
    causes = [f"{ref}: {_line(waiting.states[ref])}{explain(api, ref, waiting.states[ref])}" for ref in refs]
    return "\n    ".join([f"{len(refs)} of {len(waiting.states)} objects {heading} ready", *causes])


def _teller(on_event: OnEvent | None) -> Callable[[Waiting], None]:
    """Tells of every change in what is ready, and at least every few seconds."""
    last: list[float | int] = [-REPORT, -1]

    def tell(waiting: Waiting) -> None:
        pending = len(waiting.pending)
        if on_event and (waiting.elapsed - last[0] >= REPORT or pending != last[1]):
            last[:] = [waiting.elapsed, pending]
            on_event(waiting.report())

    return tell
