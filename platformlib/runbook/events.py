"""What happens while a notebook runs, for a journal and for a person who waits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["started", "output", "ok", "failed", "interrupted", "skipped"]


@dataclass(frozen=True)
class Event:
    """One cell started, said something, or ended."""

    kind: Kind
    cell: str
    digest: str
    """Of all code up to this cell, with the values and the package that it ran with."""
    heading: str
    number: int
    """Which section with code, from 1."""
    total: int
    last: bool = True
    """Whether it is the last code cell of its section."""
    seconds: float = 0.0
    text: str = ""
    """The last line of output."""


Listener = Callable[[Event], None]
