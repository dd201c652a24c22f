"""Parts of one question, asked at the same time: bounded, with progress, and stopped together."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]  # parts done, parts in all
WORKERS = 4


def in_parallel(
    work: Callable[[Part, threading.Event], Result],
    parts: Iterable[Part],
    *,
    workers: int = WORKERS,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> list[Result]:
    """`work` of each part, in the parts' order. The first failure, or an interrupt, stops the others and is raised."""
    waiting = list(parts)
    stop = cancel or threading.Event()
    if len(waiting) == 1:
        return [_told(work(waiting[0], stop), progress)]
    pool = ThreadPoolExecutor(min(workers, max(1, len(waiting))))
    try:
        return _gather([pool.submit(work, part, stop) for part in waiting], progress)
    except BaseException:
        stop.set()
        raise
    finally:
        # Whoever is interrupted does not wait for a server that is silent.
        pool.shutdown(wait=False, cancel_futures=True)


def _told(result: Result, progress: Progress | None) -> Result:
    if progress is not None:
        progress(1, 1)
    return result


def _gather(futures: list[Future[Result]], progress: Progress | None) -> list[Result]:
    if progress is not None:
        count = iter(range(1, len(futures) + 1))
        for future in futures:
            future.add_done_callback(lambda _: progress(next(count), len(futures)))
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()
    return [future.result() for future in futures]
