"""Live progress of a run: a bar for a person, lines for a log."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from platformlib.runbook.events import Event, Listener
from platformlib.text import visible

PATIENCE = 15.0
"""Seconds without a line after which a log wants one."""
MARKS = {"ok": "✓", "failed": "✗", "skipped": "↷"}


@dataclass
class Progress:
    """What is known of a run so far; `say` is called with each finished line."""

    say: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)
    cell_began: float = 0.0
    event: Event | None = None
    last: str = ""

    def __call__(self, event: Event) -> None:
        """Take an event of the run."""
        self.event = event
        if event.kind == "started":
            self.cell_began, self.last = time.monotonic(), ""
        elif event.kind == "output":
            self.last = visible(event.text)
        else:
            self._line(f"{MARKS[event.kind]} {self.where()}  {event.seconds:.1f} s  {self.last}")
            self.event = None

    def where(self) -> str:
        """`7/21 Storage`."""
        event = self.event
        return f"{event.number}/{event.total} {event.heading}" if event else "starting the kernel"

    def state(self) -> str:
        """One line: elapsed, where, for how long, last output."""
        cell = f"{time.monotonic() - self.cell_began:.0f} s" if self.event else ""
        return f"[{clock(time.monotonic() - self.began)}] {self.where()}  {cell}  {self.last}"

    def tick(self) -> None:
        """In a log, a long cell says each 15 seconds that it lives."""
        if time.monotonic() - self.spoke >= PATIENCE:
            self._line(f"… {self.where()}  {self.last}")

    def _line(self, text: str) -> None:
        self.spoke = time.monotonic()
        self.say(f"[{clock(self.spoke - self.began)}] {text.rstrip()}")

    def __rich__(self) -> RenderableType:
        return Spinner("dots", Text(self.state(), no_wrap=True, overflow="ellipsis"))


def clock(seconds: float) -> str:
    """`03:07`, or `1:03:07`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes:02}:{rest:02}"  # noqa: PLR2004


@contextmanager
def progress(stream: TextIO) -> Iterator[Listener]:
    """A listener that shows a run on a terminal, or writes plain lines to anything else."""
    console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
    shown = Progress(lambda text: console.print(Text(text)))
    if console.is_terminal:
        with Live(shown, console=console, refresh_per_second=4, transient=True):
            yield shown
    else:
        with _ticking(shown.tick):
            yield shown


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    done = threading.Event()

    def loop() -> None:
        while not done.wait(1.0):
            tick()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
