"""One build at a time for one cache: a file lock that dies with its holder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from platformlib.bundle.recipe import Event, OnEvent
from platformlib.errors import BundleError

REMINDER = 10.0  # seconds
PATIENCE = 2 * 60 * 60.0  # seconds: a cold build takes less


@contextmanager
def exclusive(path: Path, on_event: OnEvent, *, patience: float = PATIENCE, pause: float = 0.5) -> Iterator[None]:
    """Hold the lock at `path`; wait for another holder, saying who it is. Raises `BundleError` after `patience`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        _acquire(file, on_event, patience, pause)
        file.truncate(0)
        os.pwrite(file.fileno(), str(os.getpid()).encode(), 0)
        yield


def _acquire(file: FileIO, on_event: OnEvent, patience: float, pause: float) -> None:
    start, said = time.monotonic(), -REMINDER
    while not _try(file):
        waited = time.monotonic() - start
        holder = os.pread(file.fileno(), 20, 0).decode() or "unknown"
        if waited > patience:
            fix = f"look at that process; end it with `kill {holder}` if it hangs, then build again"
            raise BundleError(f"another build (process {holder}) still holds the bundle after {waited:.0f} s", fix=fix)
        if waited - said >= REMINDER:
            on_event(Event("waiting", message=f"another build is running (process {holder})", elapsed=waited))
            said = waited
        time.sleep(pause)


def _try(file: FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
