"""Lists of Kubernetes objects: from the cluster, and recordable like any other answer."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from platformlib.query.cassette import Cassettes
from platformlib.query.sources import RECORD, REPLAY
from platformlib.query.transport import Answer

Object = Mapping[str, Any]


class Lister(Protocol):
    """What `Kube` gives, as far as events need it."""

    def list(self, api_version: str, kind: str, /) -> list[Any]:
        """All objects of a kind, in all namespaces."""


class Objects:
    """Lists from a cluster; with PLATFORMLIB_REPLAY or PLATFORMLIB_RECORD from or to `FOLDER/name`."""

    def __init__(self, source: Callable[[], Lister], *, name: str = "kubernetes") -> None:
        self._source, self._lister = source, None if os.environ.get(REPLAY) else source()
        folder = os.environ.get(REPLAY) or os.environ.get(RECORD)
        self._cassettes = Cassettes(Path(folder) / name) if folder else None

    def now(self) -> int:
        """The wall clock, or the moment of the last recording, in nanoseconds."""
        return self._cassettes.now if self._cassettes and self._lister is None else time.time_ns()

    def list(self, api_version: str, kind: str, /) -> list[Object]:
        """All objects of a kind, in all namespaces."""
        path = f"/objects/{api_version}/{kind}"
        if self._lister is None:
            assert self._cassettes is not None  # noqa: S101  without a lister there are recordings
            return list(msgspec.json.decode(self._cassettes.load(path, {}, self.now()).body))
        found = self._lister.list(api_version, kind)
        if self._cassettes is not None:
            body = msgspec.json.encode(found, enc_hook=str)
            self._cassettes.save(path, Answer(200, body, "application/json", {}), time.time_ns())
        return list(found)
