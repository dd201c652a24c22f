"""What was done to a target in this session, with its seconds: the result table of a notebook."""

import inspect
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

VERBS = frozenset({
    "preflight", "install", "join", "claim", "upgrade", "apply", "wait", "verify", "prune", "uninstall", "release",
})  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One call: what it was done to, how many rows came back, how many of them tell of a change."""

    part: str
    step: str
    rows: int
    changed: int
    seconds: float


class Timed:
    """Stands for a driver or a layer, and keeps the time of each of its steps; what they tell is printed."""

    def __init__(self, inner: Any, part: str, history: list[Step]) -> None:
        self._inner, self._part, self._history = inner, part, history

    def __repr__(self) -> str:
        return repr(self._inner)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._timed(name, found) if name in VERBS else found

    def _timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.monotonic()
            if "on_event" in inspect.signature(work).parameters:
                options.setdefault("on_event", _teller(start))
            result = work(*args, **options)
            seconds = round(time.monotonic() - start, 1)
            rows = len(result) if hasattr(result, "__len__") else 0
            self._history.append(Step(self._part, name, rows, changes(result), seconds))
            return result

        return call


def _teller(start: float) -> Callable[[object], None]:
    """Prints each event; one that does not tell its time gets it."""
    return lambda event: print(
        f"{time.monotonic() - start:.1f} s  {event}" if isinstance(event, str) else event, flush=True
    )


def changes(result: Any) -> int:
    """How many rows of a result table tell of a change."""
    columns = getattr(result, "columns", ())
    if "action" in columns:
        return int((~result["action"].isin(["unchanged", "absent", "kept"])).sum())
    return int(result["changed"].sum()) if "changed" in columns else 0


def report(history: list[Step]) -> "pd.DataFrame":
    """part, step, rows, changed, seconds: one row for each call, in their order."""
    import pandas as pd

    return pd.DataFrame([asdict(step) for step in history], columns=["part", "step", "rows", "changed", "seconds"])
