"""What happens while a notebook runs, for a journal and for a person who waits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["started", "output", "ok", "failed", "skipped"]


@dataclass(frozen=True)
class Event:
    """One cell started, said something, or ended."""

    kind: Kind
    cell: str
    source: str
    heading: str
    number: int
    """Which code cell, from 1."""
    total: int
    seconds: float = 0.0
    text: str = ""
    """The last line of output."""


Listener = Callable[[Event], None]
