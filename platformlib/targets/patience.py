"""Waiting: every wait has a deadline, and names its last cause."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib.errors import PlatformError, WaitTimeout

if TYPE_CHECKING:
    import pandas as pd

EVERY = 2.0  # seconds between two looks
Missing = Callable[["pd.DataFrame"], str]


def until(look: Callable[[], "pd.DataFrame"], missing: Missing, timeout: float) -> "pd.DataFrame":
    """Look until nothing is missing; an error of a look counts as a cause.

    Raises:
        WaitTimeout: `timeout` seconds have passed; names what was missing last.
    """
    deadline = time.monotonic() + timeout
    while True:
        found, cause = _looked(look, missing)
        if found is not None and not cause:
            return found
        if time.monotonic() > deadline:
            raise WaitTimeout(f"after {timeout:.0f} s: {cause}", table=found)
        time.sleep(EVERY)


def _looked(look: Callable[[], "pd.DataFrame"], missing: Missing) -> "tuple[pd.DataFrame | None, str]":
    try:
        found = look()
    except PlatformError as error:
        return None, str(error)
    return found, missing(found)
