"""Progress of a run: a line that moves for a person, a line for each step in a log."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from platformlib.runbook.events import Event, Listener
from platformlib.text import visible

PATIENCE = 15.0
"""Seconds without a line after which a log wants one."""
WORTH = 2.0  # seconds of a step below which nobody asks how long it usually takes
EARLIER = 5  # runs that expectations are made of
MARKS = {"ok": "✓", "failed": "✗", "interrupted": "■", "skipped": "↷"}


@dataclass
class Progress:
    """What is known of a run so far; `say` is called with each finished step.

    `usual` has how long each step took in earlier runs, in seconds, by its heading.
    """

    say: Callable[[str], None]
    usual: Mapping[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)
    step_began: float = 0.0
    number: int = 0
    event: Event | None = None
    last: str = ""

    def __call__(self, event: Event) -> None:
        """Take an event of the run."""
        if event.number != self.number:
            self.number, self.step_began, self.last = event.number, time.monotonic(), ""
        self.event = event
        if event.kind == "output":
            self.last = visible(event.text)
        elif event.kind != "started" and (event.last or event.kind in {"failed", "interrupted"}):
            self._line(f"{MARKS[event.kind]} {self.where()}  {self.took()}  {self.last}")
            self.event = None

    def where(self) -> str:
        """`7/21 Storage`."""
        event = self.event
        return f"{event.number}/{event.total} {event.heading}" if event else "starting the kernel"

    def took(self) -> str:
        """How long the step has taken, and how long it usually does: `12.3 s (usually 10 s)`."""
        seconds = time.monotonic() - self.step_began
        usual = self.usual.get(self.event.heading, 0.0) if self.event else 0.0
        return f"{seconds:.1f} s" + (f" (usually {usual:.0f} s)" if usual >= WORTH else "")

    def state(self) -> str:
        """One line: elapsed, where, for how long, last output."""
        step = self.took() if self.event else ""
        return f"[{clock(time.monotonic() - self.began)}] {self.where()}  {step}  {self.last}"

    def tick(self) -> None:
        """In a log, a long step says each 15 seconds that it lives."""
        if time.monotonic() - self.spoke >= PATIENCE:
            self._line(f"… {self.where()}  {self.took() if self.event else ''}  {self.last}")

    def _line(self, text: str) -> None:
        self.spoke = time.monotonic()
        self.say(f"[{clock(self.spoke - self.began)}] {text.rstrip()}")

    def __rich__(self) -> RenderableType:
        return Spinner("dots", Text(self.state(), no_wrap=True, overflow="ellipsis"))


def clock(seconds: float) -> str:
    """`03:07`, or `1:03:07`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes:02}:{rest:02}"  # noqa: PLR2004


def usual(runs: Path, notebook: str) -> dict[str, float]:
    """How long each step of a notebook took in its last runs that succeeded: heading → seconds."""
    from platformlib.runbook.resume import readable

    journals = sorted(runs.glob(f"*-{notebook}.jsonl"), reverse=True)
    records = [record for record in readable(journals[: 4 * EARLIER]) if record.outcome == "ok"][:EARLIER]
    headings = {heading for record in records for heading in record.seconds}
    return {
        heading: median(record.seconds[heading] for record in records if heading in record.seconds)
        for heading in headings
    }


@contextmanager
def progress(stream: TextIO, expected: Mapping[str, float] | None = None) -> Iterator[Listener]:
    """A listener that shows a run on a terminal, or writes plain lines to anything else."""
    console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
    shown = Progress(lambda text: console.print(Text(text)), expected or {})
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
