"""A papermill engine that tells what happens, and leaves out what an earlier run did.

Its kernel is reached over Unix sockets in a private folder: papermill's default is unencrypted TCP on loopback,
where every other user of the machine can listen.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
from traitlets.config import Config

from platformlib.runbook.events import Event, Kind, Listener
from platformlib.runbook.notebook import headings, is_code

NAME = "platformlib"


@dataclass
class Watch:
    """What to skip, and whom to tell."""

    listeners: tuple[Listener, ...] = ()
    skip: Mapping[str, Any] = field(default_factory=dict)
    """Cell id → the cell of an earlier run, whose output is shown instead."""
    started: float = 0.0

    def tell(self, kind: Kind, notebook: Any, index: int, text: str = "") -> None:
        """Tell of one code cell; prose is not worth a word."""
        cell = notebook.cells[index]
        if is_code(cell):
            code = [position for position, other in enumerate(notebook.cells) if is_code(other)]
            number, total, seconds = code.index(index) + 1, len(code), time.monotonic() - self.started
            heading = headings(notebook)[index]
            event = Event(kind, cell.id, cell.source, heading, number, total, seconds, text)
            for listener in self.listeners:
                listener(event)


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """papermill's record of an execution, which also tells the watch."""

    def __init__(self, nb: Any, watch: Watch, **options: Any) -> None:
        super().__init__(nb, progress_bar=False, **options)
        self.watch = watch

    def cell_start(self, cell: Any, cell_index: int, **options: Any) -> None:
        """Tell that a cell starts."""
        super().cell_start(cell, cell_index, **options)
        self.watch.started = time.monotonic()
        if cell.id not in self.watch.skip:
            self.watch.tell("started", self.nb, cell_index)

    def cell_complete(self, cell: Any, cell_index: int, **options: Any) -> None:
        """Tell how a cell ended."""
        super().cell_complete(cell, cell_index, **options)
        failed = cell.metadata.papermill["status"] == self.FAILED
        self.watch.tell("skipped" if cell.id in self.watch.skip else "failed" if failed else "ok", self.nb, cell_index)


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client: skips what is to be skipped, and hands on the last line of output."""

    def execute_cell(self, cell: Any, cell_index: int, *args: Any, **options: Any) -> Any:
        """Execute a cell, or show what an earlier run of it gave."""
        if before := self.nb_man.watch.skip.get(cell.get("id")):
            cell.outputs, cell.metadata["platformlib"] = before.outputs, {"skipped": "an earlier run did this"}
            return cell
        return super().execute_cell(cell, cell_index, *args, **options)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Take a message from the kernel."""
        output = super().process_message(msg, cell, cell_index)
        if output and (line := last_line(output)):
            self.nb_man.watch.tell("output", self.nb, cell_index, line)
        return output


def last_line(output: Mapping[str, Any]) -> str:
    """The last line that a cell printed; the last line of a table would say nothing."""
    lines = [line.strip() for line in "".join(output.get("text") or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""


class RunbookEngine(Engine):  # type: ignore[misc]
    """The engine as papermill sees it."""

    @classmethod
    def execute_notebook(
        cls, nb: Any, kernel_name: str, output_path: str | None = None, *, watch: Watch, **options: Any
    ) -> Any:
        """Run a notebook; it is saved at each cell's start and end, whatever happens."""
        manager = Manager(nb, watch, output_path=output_path)
        manager.notebook_start()
        try:
            with private_kernel() as config:
                start = options.get("start_timeout", 60)
                Client(manager, kernel_name=kernel_name, config=config, startup_timeout=start, timeout=None).execute()
        finally:
            manager.notebook_complete()
        return manager.nb


@contextmanager
def private_kernel() -> Iterator[Config]:
    """Settings of a kernel on Unix sockets; their folder belongs to this user alone, and goes away."""
    with TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        file = str(Path(folder) / "k.json")
        yield Config({"KernelManager": {"transport": "ipc", "connection_file": file}})


papermill_engines.register(NAME, RunbookEngine)
