"""The same work on many machines at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from platformlib.errors import NodeError
from platformlib.machines.machine import Machine

T = TypeVar("T")


def each(machines: Iterable[Machine], work: Callable[[Machine], T]) -> dict[str, T]:
    """Run `work` for every machine in parallel; results by machine name.

    Raises:
        NodeError: the failure, or all failures together, after every machine has ended its work.
    """
    targets = list(machines)
    with ThreadPoolExecutor(max_workers=max(len(targets), 1)) as pool:
        futures = {machine.name: pool.submit(work, machine) for machine in targets}
    failures = {name: error for name, future in futures.items() if (error := future.exception())}
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise NodeError(", ".join(failures), "\n  ".join(["all of these failed", *map(str, failures.values())]))
    return {name: future.result() for name, future in futures.items()}
