"""Checks that can fail: each says what it expects, what it found and what to do. The whole table is shown first."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from platformlib.errors import CheckFailed

if TYPE_CHECKING:
    import pandas as pd

Found = tuple[bool, str]
Tell = Callable[[object], None]
COLUMNS = ("check", "ok", "expected", "found", "fix")
INTERVAL = 2.0  # seconds between two tries of one check
PARALLEL = 16  # checks wait for the cluster most of their time
LONGEST = 500  # characters of an exception in the table


@dataclass(frozen=True)
class Result:
    """What one check found."""

    check: str
    ok: bool
    expected: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Check:
    """A question about the platform. `find` answers whether it holds, and what is there instead of a bare yes or no.

    What becomes true a little after an installation (a first scrape, say) is asked again for `patience` seconds.
    `anytime`: it makes what it needs by itself, so that it may be tried before its turn (see `Ahead`).
    """

    name: str
    expected: str
    fix: str
    find: Callable[[], Found] = field(repr=False, compare=False)
    patience: float = 0
    anytime: bool = False

    def run(self, tell: Tell | None = None) -> Result:
        """Ask until it holds or the patience is over. An exception is an answer too: it does not hold.

        `tell` hears what is waited for, as often as that changes.
        """
        deadline, told = time.monotonic() + self.patience, ""
        while True:
            ok, found = self._once()
            if ok or time.monotonic() + INTERVAL > deadline:
                if tell:
                    tell(f"{'✓' if ok else '✗'} {self.name}")
                return Result(self.name, ok, self.expected, found, self.fix)
            if tell and found != told:
                tell(f"waiting for {self.name}: {found}")
                told = found
            time.sleep(INTERVAL)

    def _once(self) -> Found:
        try:
            return self.find()
        except Exception as error:  # whatever goes wrong in one check must not hide the others
            return False, f"{type(error).__name__}: {_words(error)}"


def _words(error: Exception) -> str:
    """An error's message in one line, its last cause included; the fix has a column of its own."""
    lines = [line.strip() for line in str(error).split("\n  fix:", maxsplit=1)[0].splitlines() if line.strip()]
    return textwrap.shorten("; ".join(lines), LONGEST, placeholder=" …") or "no message"


def run(checks: Sequence[Check]) -> list[Result]:
    """The results in the order of the checks, which run side by side: most of their time is waiting."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(Check.run, checks))


class Ahead:
    """Checks that were begun before their turn, so that their waiting overlaps."""

    def __init__(self) -> None:
        self._begun: dict[str, dict[str, Future[Result]]] = {}

    def begin(self, part: str, checks: Sequence[Check]) -> None:
        """Try those of a part that may be tried at any time."""
        pool = ThreadPoolExecutor(PARALLEL)
        self._begun[part] = {check.name: pool.submit(check.run) for check in checks if check.anytime}
        pool.shutdown(wait=False)

    def drop(self) -> None:
        """Use no result: something was changed meanwhile."""
        self._begun.clear()

    def run(self, part: str, checks: Sequence[Check], tell: Tell | None = None) -> list[Result]:
        """As `run`. What was begun counts once, and only if it holds: else it is tried again in its turn."""
        begun = self._begun.pop(part, {})

        def result(check: Check) -> Result:
            early = begun[check.name].result() if check.name in begun else None
            return early if early is not None and early.ok else check.run(tell)

        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(result, checks))


def table(results: Iterable[Result]) -> "pd.DataFrame":
    """check, ok, expected, found, fix: a row each result; `fix` only where one is needed."""
    import pandas as pd

    rows = [asdict(result) | {"fix": "" if result.ok else result.fix} for result in results]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"ok": bool})


def verify(results: Iterable[Result]) -> "pd.DataFrame":
    """The table of all results; shown first where a notebook can show it.

    Raises:
        CheckFailed: one or more do not hold, or there is nothing to judge; `.table` has every result.
    """
    found = table(results)
    failed = found[~found["ok"]]
    if len(failed) == 0 and len(found) > 0:
        return found
    _show(found)
    if len(found) == 0:
        raise CheckFailed("no check was made, so nothing is proven", table=found)
    lines = [f"{row.check}: expected {row.expected}; found {row.found}" for row in failed.itertuples()]
    fixes = "\n       ".join(dict.fromkeys(fix for fix in failed["fix"] if fix))
    message = f"{len(failed)} of {len(found)} checks do not hold\n    " + "\n    ".join(lines)
    raise CheckFailed(message, table=found, fix=fixes)


def _show(frame: "pd.DataFrame") -> None:
    """In a notebook the exception would hide the table: a value that is never returned is never displayed."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from IPython.display import display

        display(frame)  # type: ignore[no-untyped-call]
