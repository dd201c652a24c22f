"""The journal of a run: one JSON object a line, written as things happen, so that a killed run tells how far it came.

    {"event": "run",  "run": ID, "root": ID, "notebook": ..., "output": ..., "parameters": {...}, "hash": ...,
                      "resumes": ID or null, "pid": ..., "began": ..., "time": ...}
    {"event": "cell", "cell": ID, "digest": ..., "heading": ..., "seconds": ..., "time": ...,
                      "outcome": "started|ok|failed|interrupted|skipped"}
    {"event": "end",  "outcome": "ok|failed|interrupted", "seconds": ..., "time": ...}

A journal says what a run did. It never decides what is installed: the cluster is the state.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformlib.errors import RunbookError

INTERRUPTED = "interrupted"


def digest(value: Any) -> str:
    """A short hash of text, or of anything that JSON can say, independent of the order of keys."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def now() -> str:
    """The present in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Journal:
    """Appends events to a file."""

    path: Path

    def open(self, **fields: Any) -> None:
        """The first event: which run this is, and which process runs it."""
        import psutil

        process = psutil.Process()
        self.write("run", run=self.path.stem, pid=process.pid, began=process.create_time(), **fields)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; it is on its way to the disk when this returns."""
        line = json.dumps({"event": event, **fields, "time": now()}, default=str)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@dataclass(frozen=True)
class Record:
    """What a journal tells of an earlier run."""

    run: str
    path: Path
    notebook: str
    parameters: Mapping[str, Any]
    hash: str
    outcome: str
    done: Mapping[str, str] = field(default_factory=dict)
    """Cell id → the digest with which it succeeded: see resume.digests."""

    output: Path = Path()
    """The notebook that the run wrote."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Heading → how long its cells took."""
    root: str = ""
    """The first run of those that went on from each other."""
    pid: int = 0
    began: float = 0.0
    """When the process began, since its number may have gone to another one."""

    def alive(self) -> bool:
        """Whether the process that runs it is still there."""
        import psutil

        try:
            return self.outcome == INTERRUPTED and psutil.Process(self.pid).create_time() == self.began
        except psutil.Error:
            return False


def read(path: Path) -> Record:
    """A journal as a record; a last line that was cut off is left out.

    Raises:
        RunbookError: not a journal.
    """
    events = [event for line in _lines(path) if (event := _parse(line))]
    first = next((event for event in events if event.get("event") == "run"), None)
    if first is None:
        raise RunbookError(f"{path} is not the journal of a run", fix="give a run's id, or its path under runs/")
    end = next((event["outcome"] for event in events if event["event"] == "end"), INTERRUPTED)
    ended = [event for event in events if event["event"] == "cell" and event["outcome"] in {"ok", "skipped"}]
    given: dict[str, Any] = {
        name: first.get(name) for name in ("run", "notebook", "parameters", "hash", "pid", "began")
    }
    return Record(
        path=path,
        outcome=end,
        done={event["cell"]: event.get("digest", "") for event in ended},
        output=Path(first.get("output") or path.with_suffix(".ipynb")),
        seconds=_seconds(event for event in ended if event["outcome"] == "ok"),
        root=str(first.get("root") or first.get("run")),
        **given,
    )


def _seconds(cells: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Heading → how long its cells took together."""
    found: dict[str, float] = {}
    for cell in cells:
        heading = str(cell.get("heading", ""))
        found[heading] = found.get(heading, 0.0) + float(cell.get("seconds") or 0)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise RunbookError(f"{path}: {error.strerror or error}", fix="list the runs: ls runs/*.jsonl") from None


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
