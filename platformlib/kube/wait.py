"""Waiting with a deadline that ends early at a final failure, and that always names the last cause."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platformlib.errors import ApiError, KubeError, TerminalCondition, WaitTimeout
from platformlib.kube import events
from platformlib.kube.api import Api, UnknownKindError
from platformlib.kube.batch import OnEvent, Progress, frame
from platformlib.kube.objects import Object, Objects, Reference, printable
from platformlib.kube.readiness import Readiness, assess
from platformlib.kube.session import FORBIDDEN, GONE, SERVER_ERROR, TOO_MANY
from platformlib.kube.workloads import CRASHES, Failure, selected
from platformlib.polling import poll

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "ready", "seconds", "detail")
INTERVAL, REPORT = 1.0, 5.0  # seconds between polls, between reports
SHOWN = 3  # objects that a report names
LINES = 8  # log lines of a crashed container
SETTLING = 15.0  # seconds in which an API server that has just booted forbids everything, until it has read its rules
SELECTORS = {"Event": events.WARNINGS}
FIX = "fix the cause and rerun; ready objects stay unchanged"
Key = tuple[Reference, str, str, str]


def wait(api: Api, refs: Sequence[Reference], *, timeout: float, on_event: OnEvent | None = None) -> "pd.DataFrame":
    """See `Kube.wait`."""
    waiting, tell = Waiting(sorted(set(refs), key=lambda ref: ref.order)), _teller(on_event)
    hasty = api.with_retry_timeout(min(REPORT, max(timeout, INTERVAL)))

    def look() -> bool:
        if final := waiting.look(hasty):
            message = _message(api, waiting, final, "can never become")
            raise TerminalCondition(message, table=waiting.table(), fix=FIX)
        tell(waiting)
        return not waiting.pending

    if not poll(look, timeout=timeout, interval=INTERVAL):
        message = _message(api, waiting, waiting.pending, f"after {timeout:.0f} s still not")
        raise WaitTimeout(message, table=waiting.table(), fix=FIX)
    return waiting.table()


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
        """One poll; returns those that can never become ready.

        A server that is away or overloaded for a moment is a cause to name, not a reason to give up.
        """
        snapshot = Snapshot(api)
        try:
            for ref in self.pending:
                self.states[ref], self.seconds[ref] = snapshot.assess(ref), self.elapsed
        except KubeError as error:
            if isinstance(error, ApiError) and not _may_pass(error, self.elapsed):
                raise
            for ref in self.pending:
                self.states[ref] = Readiness(False, str(error).splitlines()[0])
            return []
        return [ref for ref in self.pending if self.failures.final(ref, self.states[ref].failure, self.elapsed)]

    def table(self) -> "pd.DataFrame":
        """The result table as it stands."""
        rows = (
            {**ref.row, "ready": state.ready, "seconds": round(self.seconds[ref], 1), "detail": _line(state)}
            for ref, state in self.states.items()
        )
        return frame(rows, COLUMNS)

    def report(self) -> Progress:
        """Which objects are not ready, and why."""
        waiting = "; ".join(f"{ref}: {_line(self.states[ref])}" for ref in self.pending[:SHOWN])
        more = f"; and {len(self.pending) - SHOWN} more" if len(self.pending) > SHOWN else ""
        done = len(self.states) - len(self.pending)
        return Progress("wait", done, len(self.states), self.elapsed, (waiting + more) or "all ready")


def _may_pass(error: ApiError, elapsed: float) -> bool:
    """Whether a later look may be answered."""
    passing = error.status in {TOO_MANY, GONE} or error.status >= SERVER_ERROR
    return passing or (error.status == FORBIDDEN and elapsed < SETTLING)


class Snapshot:
    """The cluster at one moment: each kind is listed once, when it is first asked for."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._lists: dict[tuple[str, str, str], Objects] = {}
        self._named: dict[tuple[str, str, str], dict[str, Object]] = {}

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
        key = (ref.api_version, ref.kind, ref.namespace)
        if key not in self._named:
            self._named[key] = {obj["metadata"]["name"]: obj for obj in self.list(*key)}
        return assess(self._named[key].get(ref.name), self)


@dataclass
class FailureTracker:
    """Remembers since when each failure lasts, and how many restarts a container had when it was first seen."""

    _since: dict[Key, float] = field(default_factory=dict)
    _restarts: dict[tuple[str, str], int] = field(default_factory=dict)

    def final(self, ref: Reference, failure: Failure | None, now: float) -> bool:
        """Whether the failure has lasted longer than its grace. `now` is in seconds of any steady clock."""
        key = (ref, failure.topic, failure.pod, failure.container) if failure else None
        # A failure that was interrupted starts anew.
        self._since = {known: since for known, since in self._since.items() if known[0] != ref or known == key}
        if failure is None or key is None:
            return False
        since = self._since.setdefault(key, now)
        return self._crashed(failure) or (failure.grace is not None and now - since >= failure.grace)

    def _crashed(self, failure: Failure) -> bool:
        """A crash loop is final after some restarts, if one more was seen: an old one may just have been fixed."""
        if not failure.crashing:
            return False
        first = self._restarts.setdefault((failure.pod, failure.container), failure.restarts)
        return failure.restarts >= CRASHES and failure.restarts > first


def _line(state: Readiness) -> str:
    return printable(f"{state.detail}; {state.failure.detail}" if state.failure else state.detail)


def _message(api: Api, waiting: Waiting, refs: Sequence[Reference], heading: str) -> str:
    causes = [f"{ref}: {_line(waiting.states[ref])}{_explained(api, ref, waiting.states[ref])}" for ref in refs]
    return "\n    ".join([f"{len(refs)} of {len(waiting.states)} objects {heading} ready", *causes])


def _explained(api: Api, ref: Reference, state: Readiness) -> str:
    """The newest warning of the object or its pods, and the last lines of a container that crashed."""
    try:
        return printable("".join([_warning(api, ref), _last_lines(api, ref, state.failure)]))
    except KubeError:
        return ""  # the cause itself has been named; this would have been more of it


def _warning(api: Api, ref: Reference) -> str:
    if not ref.namespace:
        return ""
    live = api.get_if_known(ref) or {}
    selector = (live.get("spec") or {}).get("selector")
    # A Service's selector is a plain mapping: its pods are explained by their own workload.
    pods = selected(api.list("v1", "Pod", ref.namespace), selector) if ref.kind != "Service" else []
    names = [pod["metadata"]["name"] for pod in pods] + ([ref.name] if ref.kind == "Pod" else [])
    event = events.newest(events.of_namespace(api, ref.namespace), ref.kind, ref.name, names)
    if event is None:
        return ""
    age = (datetime.now(UTC) - events.seen_at(event)).total_seconds()
    return f"\n      last warning, {age:.0f} s ago: {event.get('reason')}: {(event.get('message') or '').strip()}"


def _last_lines(api: Api, ref: Reference, failure: Failure | None) -> str:
    if not (failure and failure.crashing):
        return ""
    for previous in (True, False):
        try:
            text = events.logs(api, ref.namespace, failure.pod, failure.container, tail=LINES, previous=previous)
        except KubeError:
            continue
        return "".join(f"\n      | {line}" for line in text.splitlines()[-LINES:])
    return ""


def _teller(on_event: OnEvent | None) -> Callable[[Waiting], None]:
    """Reports every change in what is ready, and at least every few seconds."""
    last: list[float | int] = [-REPORT, -1]

    def tell(waiting: Waiting) -> None:
        pending = len(waiting.pending)
        if on_event and (waiting.elapsed - last[0] >= REPORT or pending != last[1]):
            last[:] = [waiting.elapsed, pending]
            on_event(waiting.report())

    return tell
