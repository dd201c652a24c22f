"""The papermill engine that runs this project's notebooks, whoever calls papermill.

It refuses wrong parameters before a kernel starts, tells what happens, leaves out what an earlier run did, and ends in
order when it is interrupted. Its kernel is reached over Unix sockets in a private folder: papermill's default is
unencrypted TCP on loopback, where every other user of the machine can listen.
"""

import ast
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from tempfile import TemporaryDirectory
from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NBClientEngine, NotebookExecutionManager, papermill_engines
from traitlets.config import Config

from platformlib.runbook.events import Event, Kind, Listener
from platformlib.runbook.notebook import is_code, sections
from platformlib.runbook.resume import INJECTED, RUN

NAME = "platformlib"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
SKIPPED = {"skipped": "an earlier run did this"}


class Stopped(Exception):
    """A run was interrupted between two cells."""


@dataclass
class Watch:
    """What to skip, whom to tell, and whether to stop."""

    listeners: tuple[Listener, ...] = ()
    skip: Mapping[str, Any] = field(default_factory=dict)
    """Cell id → the cell of an earlier run, whose output is shown instead."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Cell id → digest of all that it depends on: see resume.digests."""
    run: str = ""
    """What is derived from this is the same in a run that goes on from another."""
    interrupted: bool = False
    started: float = 0.0

    def tell(self, kind: Kind, notebook: Any, index: int, text: str = "") -> None:
        """Tell of one code cell; prose and injected parameters are not worth a word."""
        cell = notebook.cells[index]
        if not is_code(cell) or INJECTED in cell.metadata.get("tags", []):
            return
        working = [section for section in sections(notebook) if _told(section.code)]
        number, section = next((n, each) for n, each in enumerate(working, 1) if cell in each.cells)
        event = Event(
            kind, cell.get("id", ""), self.digests.get(cell.get("id", ""), ""), section.heading, number, len(working),
            last=_told(section.code)[-1] is cell, seconds=time.monotonic() - self.started, text=text,
        )  # fmt: skip
        for listener in self.listeners:
            listener(event)


def _told(cells: list[Any]) -> list[Any]:
    return [cell for cell in cells if INJECTED not in cell.metadata.get("tags", [])]


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """papermill's record of an execution, which also tells the watch."""

    def __init__(self, nb: Any, watch: Watch, **options: Any) -> None:
        super().__init__(nb, progress_bar=False, **options)
        self.watch, self.done = watch, set[int]()

    def cell_start(self, cell: Any, cell_index: int, **options: Any) -> None:
        """Tell that a cell starts."""
        super().cell_start(cell, cell_index, **options)
        self.watch.started = time.monotonic()
        if cell.get("id") not in self.watch.skip:
            self.watch.tell("started", self.nb, cell_index)

    def cell_complete(self, cell: Any, cell_index: int, **options: Any) -> None:
        """Tell how a cell ended: well only if its execution returned."""
        super().cell_complete(cell, cell_index, **options)
        self.watch.tell(self._outcome(cell, cell_index), self.nb, cell_index)

    def _outcome(self, cell: Any, index: int) -> Kind:
        if cell.get("id") in self.watch.skip:
            return "skipped"
        if index in self.done:
            return "ok"
        return "interrupted" if self.watch.interrupted else "failed"


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client: skips what is to be skipped, and hands on the last line of output."""

    def execute_cell(self, cell: Any, cell_index: int, *args: Any, **options: Any) -> Any:
        """Execute a cell, or show what an earlier run of it gave."""
        watch = self.nb_man.watch
        if watch.interrupted:
            raise Stopped
        if before := watch.skip.get(cell.get("id")):
            cell.outputs, cell.metadata["platformlib"] = before.outputs, dict(SKIPPED)
            return cell
        done = super().execute_cell(cell, cell_index, *args, **options)
        self.nb_man.done.add(cell_index)
        return done

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Take a message from the kernel."""
        output = super().process_message(msg, cell, cell_index)
        if output and (line := last_line(output)):
            self.nb_man.watch.tell("output", self.nb, cell_index, line)
        return output

    def interrupt(self) -> None:
        """Interrupt the cell that runs, and what it has started; the kernel lives on."""
        group = getattr(getattr(self.km, "provisioner", None), "pgid", None)
        if group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGINT)


def last_line(output: Mapping[str, Any]) -> str:
    """The last line that a cell printed, without colours; the last line of a table would say nothing."""
    lines = [line.strip() for line in ANSI.sub("", "".join(output.get("text") or "")).splitlines() if line.strip()]
    return lines[-1] if lines else ""


class RunbookEngine(Engine):  # type: ignore[misc]
    """The engine as papermill sees it; a notebook that is not of this project is left to papermill's own engine."""

    @classmethod
    def execute_notebook(
        cls, nb: Any, kernel_name: str, output_path: str | None = None, *, watch: Watch | None = None, **options: Any
    ) -> Any:
        """Run a notebook; it is saved at each cell's start and end, whatever happens.

        Raises:
            ParameterError: papermill was called without `platformlib run`, and a parameter is wrong.
        """
        if watch is None:
            if NAME not in nb.metadata:
                return NBClientEngine.execute_notebook(nb, kernel_name, output_path=output_path, **options)
            refuse(nb, str(options.get("input_path") or "notebook"))
            watch = Watch()
        for cell in nb.cells:
            if INJECTED in cell.metadata.get("tags", []):
                cell.source = readable(cell.source)
        manager = Manager(nb, watch, output_path=output_path)
        manager.notebook_start()
        try:
            with private_kernel() as config:
                start = options.get("start_timeout", 60)
                client = Client(manager, kernel_name=kernel_name, config=config, startup_timeout=start, timeout=None)
                with interrupting(client, watch):
                    client.execute(env={**os.environ, RUN: watch.run})
        finally:
            manager.notebook_complete()
        return manager.nb


def readable(source: str) -> str:
    """Injected parameters with lines that a person reads: papermill writes each value on one."""
    lines = source.splitlines()
    notes = [line for line in lines if line.startswith("#")]
    values = [(one.targets[0].id, ast.literal_eval(one.value)) for one in ast.parse(source).body
              if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)]  # fmt: skip
    return "\n".join([*notes, *(f"{name} = {pformat(value, width=100, sort_dicts=False)}" for name, value in values)])


def refuse(nb: Any, name: str) -> None:
    """Refuse wrong values of the parameters that papermill has injected. Raises ParameterError."""
    from platformlib.runbook.declared import declared
    from platformlib.runbook.parameters import checked

    given = dict((nb.metadata.get("papermill") or {}).get("parameters") or {})
    takes = declared(nb, name=name)
    checked(takes, given, {}, near=Path(name).parent, source=name, whole=False)


@contextmanager
def interrupting(client: Client, watch: Watch) -> Iterator[None]:
    """The first SIGINT or SIGTERM interrupts the running cell, which can put things in order; a second ends all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: Any) -> None:
        if watch.interrupted:
            signal.signal(number, before[signal.Signals(number)])
            raise KeyboardInterrupt
        watch.interrupted = True
        client.interrupt()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def private_kernel() -> Iterator[Config]:
    """Settings of a kernel on Unix sockets; their folder belongs to this user alone, and goes away."""
    with TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        file = str(Path(folder) / "k.json")
        yield Config({"KernelManager": {"transport": "ipc", "connection_file": file}})


papermill_engines.register(NAME, RunbookEngine)
# The engine that papermill takes when none is named: its entry point in pyproject.toml is read by every papermill.
papermill_engines.register(None, RunbookEngine)
