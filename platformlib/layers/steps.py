"""The record of a session: each step, what it was done to, how many rows it gave, how many of them were changes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

UNCHANGED = ("unchanged", "absent", "kept")  # how the actions begin that change nothing
COLUMNS = ["part", "step", "rows", "changed", "seconds"]


@dataclass(frozen=True)
class Step:
    """One finished step. `changed` counts the rows of a change; in a dry run, of a change that would be made."""

    part: str
    step: str
    rows: int
    changed: int
    seconds: float


class Running:
    """A step that is under way."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self.began = time.monotonic()
        self.table: pd.DataFrame | None = None
        self._say = say

    @property
    def seconds(self) -> float:
        """Since its beginning."""
        return time.monotonic() - self.began

    def tell(self, event: object) -> None:
        """Say what happens; a plain text gets the time since the step began."""
        if self._say:
            self._say(f"{self.seconds:.1f} s  {event}" if isinstance(event, str) else str(event))

    def done(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Keep the step's result for the report; returns it."""
        self.table = table
        return table


class Steps:
    """Times the steps of a session.

    Args:
        say: receives a line for each event of a running step; default: nobody.
        show: receives each finished step with its table; default: nobody.
    """

    def __init__(
        self,
        say: Callable[[str], None] | None = None,
        show: "Callable[[Step, pd.DataFrame], None] | None" = None,
    ) -> None:
        self.finished: list[Step] = []
        self._say, self._show = say, show

    @contextmanager
    def step(self, part: str, name: str) -> Iterator[Running]:
        """Time the work inside, and record it if it ends with `done`. A step that raises is not recorded."""
        running = Running(self._say)
        yield running
        if running.table is None:
            return
        step = Step(part, name, len(running.table), changes(running.table), round(running.seconds, 1))
        self.finished.append(step)
        if self._show:
            self._show(step, running.table)

    def report(self) -> "pd.DataFrame":
        """One row for each finished step, in their order.

        Returns:
            Columns: part, step, rows, changed, seconds.
        """
        import pandas as pd

        return pd.DataFrame([asdict(step) for step in self.finished], columns=COLUMNS)


def changes(table: "pd.DataFrame") -> int:
    """How many rows of a result table tell of a change."""
    if "action" in table.columns:
        return int((~table["action"].astype(str).str.startswith(UNCHANGED)).sum())
    return int(table["changed"].sum()) if "changed" in table.columns else 0
