"""A verb as one readable list of phases: the same list is the table of what would happen, and what then happens."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformlib.clusters.driver import OnEvent
from platformlib.clusters.table import Row, step_table
from platformlib.machines import Machine, each

if TYPE_CHECKING:
    import pandas as pd

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Task:
    """One step on one machine.

    Attributes:
        would: what it would do, as in `would drain 3 pods`; or `unchanged`. A callable is asked only for a plan.
        work: does it; True when it changed anything.
    """

    machine: Machine
    step: str
    would: str | Callable[[], str]
    work: Callable[[], bool]


# The tasks of one phase run at once; the next phase begins when all are done.
Phases = Sequence[Sequence[Task]]


def plan(phases: Phases) -> "pd.DataFrame":
    """What would happen on which machine.

    Returns:
        One row for each step, in their order.

        Columns: node, step, action
    """
    import pandas as pd

    rows = [
        (task.machine.name, task.step, task.would if isinstance(task.would, str) else task.would())
        for phase in phases
        for task in phase
    ]
    return pd.DataFrame(rows, columns=["node", "step", "action"])


def carry_out(phases: Iterable[Sequence[Task]], on_event: OnEvent) -> list[Row]:
    """Do it, phase by phase; an error ends it after all tasks of its phase have ended."""
    rows: list[Row] = []
    for phase in phases:
        if phase:
            on_event(f"{phase[0].step}: {', '.join(task.machine.name for task in phase)}")
        done = {task.machine.name: task for task in phase}
        timed = each([task.machine for task in phase], lambda machine: _timed(done[machine.name]))  # noqa: B023
        rows += timed.values()
    return rows


def perform(phases: Phases, on_event: OnEvent, *, dry_run: bool) -> "pd.DataFrame":
    """The plan of a dry run, or what was done: node, step, changed, seconds."""
    return plan(phases) if dry_run else step_table(carry_out(phases, on_event))


def _timed(task: Task) -> Row:
    start = time.monotonic()
    changed = task.work()
    return task.machine.name, task.step, changed, round(time.monotonic() - start, 1)
