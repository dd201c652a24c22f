"""How commands speak: tables, lines and errors."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from platformlib.errors import (
    CellFailed,
    CheckFailed,
    ParameterError,
    PlatformError,
    RunInterrupted,
    SettingsError,
    TableError,
)
from platformlib.text import visible

if TYPE_CHECKING:
    import pandas as pd

OK, FAILED, REFUSED, CHECK_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit status: 0 done · 1 failed · 2 refused before anything was touched · 3 a check did not hold · 130 interrupted"
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def table(frame: "pd.DataFrame", title: str = "") -> None:
    """Print a DataFrame, or say that it is empty."""
    if frame.empty:
        out.print(f"{title}: nothing" if title else "nothing")
        return
    shown = Table(*map(str, frame.columns), title=title or None, title_justify="left", box=None, header_style="bold")
    for row in frame.itertuples(index=False):
        shown.add_row(*(Text(_cell(value)) for value in row))
    out.print(shown)


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return "" if value != value else f"{value:.1f}"  # noqa: PLR0124  NaN is the one value unequal to itself
        case None:
            return ""
        case list() | tuple():
            return visible(", ".join(map(str, value)))
        case _:
            return visible(str(value))


def stages() -> Callable[[object], None]:
    """A listener that prints each event of a long work as one line, with the time since it began."""
    import time

    from platformlib.runbook.progress import clock

    began = time.monotonic()
    return lambda event: out.print(Text(visible(f"[{clock(time.monotonic() - began)}] {event}")))


def error(problem: PlatformError) -> int:
    """Print an error in plain words; the exit status that it means."""
    if isinstance(problem, RunInterrupted):
        err.print(Text(visible(str(problem))), soft_wrap=True)
        return INTERRUPTED
    if isinstance(problem, TableError) and problem.table is not None:
        table(problem.table)
    name, said = Text(f"{type(problem).__name__}: ", style="bold red"), Text(visible(str(problem)))
    err.print(name, said, sep="", soft_wrap=True)
    return status(problem)


def status(problem: PlatformError) -> int:
    """The exit status that an error means."""
    if isinstance(problem, SettingsError | ParameterError):
        return REFUSED
    name = problem.ename if isinstance(problem, CellFailed) else type(problem).__name__
    return CHECK_FAILED if name == CheckFailed.__name__ else FAILED


def fail(problem: PlatformError) -> None:
    """Print an error and leave."""
    sys.exit(error(problem))
