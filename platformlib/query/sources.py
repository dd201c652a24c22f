"""The transport that a platform's settings and the environment ask for."""

import os
from collections.abc import Callable
from pathlib import Path

from platformlib.query.cassette import Recording, Replay
from platformlib.query.transport import Route, Transport, direct, service

RECORD, REPLAY = "PLATFORMLIB_RECORD", "PLATFORMLIB_REPLAY"


def connect(source: str | Callable[[], Route], *, name: str) -> Transport:
    """A transport to one server: `source` is its URL, or makes its route through the API server.

    With `PLATFORMLIB_REPLAY=FOLDER` the answers come from `FOLDER/name` and `source` is never called;
    with `PLATFORMLIB_RECORD=FOLDER` they are kept there.
    """
    if folder := os.environ.get(REPLAY):
        return Replay(Path(folder) / name)
    inner = direct(source) if isinstance(source, str) else service(source(), name=name)
    if folder := os.environ.get(RECORD):
        return Recording(inner, Path(folder) / name)
    return inner
