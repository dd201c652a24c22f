"""Wait for a table to be as it should: with a deadline, and an error that names the last cause."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib.errors import PlatformError, WaitTimeout
from platformlib.polling import poll

if TYPE_CHECKING:
    import pandas as pd

INTERVAL = 2.0  # seconds between two looks


def wait_until(
    look: "Callable[[], pd.DataFrame]", missing: "Callable[[pd.DataFrame], str]", timeout: float
) -> "pd.DataFrame":
    """Look until nothing is missing. An error of `look` is a cause like any other.

    Args:
        missing: names what a table lacks; an empty text ends the wait.
        timeout: seconds; 0 looks once.

    Raises:
        WaitTimeout: names what was missing last; `.table` is the last table.
    """
    found: pd.DataFrame | None = None
    cause = ""

    def complete() -> bool:
        nonlocal found, cause
        try:
            found = look()
            cause = missing(found)
        except PlatformError as error:
            found, cause = None, str(error)
        return found is not None and not cause

    if poll(complete, timeout=timeout, interval=INTERVAL) and found is not None:
        return found
    raise WaitTimeout(f"after {timeout:.0f} s: {cause}", table=found)
