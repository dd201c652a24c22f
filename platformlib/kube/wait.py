"""Waiting with a deadline that fails early, and that always says what for."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from platformlib.errors import ApiError, KubeError, TerminalCondition, WaitTimeout
from platformlib.kube.api import Api
from platformlib.kube.causes import Watch, explain
from platformlib.kube.discovery import UnknownKindError
from platformlib.kube.events import WARNINGS
from platformlib.kube.objects import Objects, Reference
from platformlib.kube.readiness import Readiness, assess
from platformlib.kube.report import OnEvent, Progress, frame

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "ready", "seconds", "detail")
EAGER, INTERVAL, REPORT = 0.2, 1.0, 5.0  # seconds between the first polls, between later ones, between reports
SHOWN = 3  # objects that a report names
FORBIDDEN, SERVER_ERROR = 403, 500
SETTLING = 15.0  # seconds in which an API server that has just booted refuses all, until it has read its rules
SELECTORS = {"Event": WARNINGS}
FIX = "mend the cause, then run again: what is ready already is not touched"


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
        self.watch = Watch()

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
        return [ref for ref in self.pending if self.watch.final(ref, self.states[ref].trouble, self.elapsed)]

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
        final = _look(api.hurried(min(REPORT, timeout)), waiting)
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
