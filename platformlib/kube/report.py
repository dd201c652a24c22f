"""What the long verbs tell while they work, and the tables that they return."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Progress:
    """One step of apply, wait, prune or uninstall; its text is a line to show."""

    verb: str
    done: int
    total: int
    seconds: float
    detail: str

    def __str__(self) -> str:
        return f"{self.verb} {self.done}/{self.total} {self.seconds:5.1f} s  {self.detail}"


OnEvent = Callable[[Progress], None]


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> "pd.DataFrame":
    """A table that has its columns even when it has no rows."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns))
