"""Many objects at once: requests within a bound that a small control plane bears, one error, progress and tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from platformlib.errors import KubeError

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = 8
SHOWN = 50  # errors that a combined one lists


def each(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = THREADS
) -> tuple[list[Result], list[tuple[Item, KubeError]]]:
    """Call `function` for every item; what succeeded, and what failed with its error, both in the items' order."""

    def attempt(item: Item) -> Result | KubeError:
        try:
            return function(item)
        except KubeError as error:
            return error

    given = list(items)
    # The threads inherit the context: which leases the caller holds.
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(copy_context().run, attempt, item) for item in given]
        try:
            answers = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failed = [(item, answer) for item, answer in zip(given, answers, strict=True) if isinstance(answer, KubeError)]
    return [answer for answer in answers if not isinstance(answer, KubeError)], failed


def combine_errors(failed: Iterable[tuple[object, KubeError]], *, heading: str) -> KubeError:
    """One error for many; a single one keeps its own fix."""
    errors = [error for _, error in failed]
    sentences = [str(error).split("\n  fix:")[0] for error in errors[:SHOWN]]
    if len(errors) > SHOWN:
        sentences.append(f"and {len(errors) - SHOWN} more")
    fixes = sorted({error.fix for error in errors if error.fix})
    return KubeError("\n    ".join([heading, *sentences]), fix="; ".join(fixes))


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
