"""Polling with a deadline: the one loop behind every wait."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def poll(look: Callable[[], Answer], *, timeout: float, interval: float = 1.0, growing: bool = True) -> Answer:
    """Call `look` until its answer is true, or until `timeout` seconds have passed.

    `look` is called at least once. The deadline is checked between two calls; `look` itself is not interrupted.

    Args:
        look: asks once; a false answer means "not yet". What it raises ends the polling.
        timeout: seconds; 0 looks once.
        interval: seconds between two looks.
        growing: start with a fifth of `interval`, then pause a tenth of the time that has passed, up to `interval`:
            what is ready soon is seen soon, and a long wait asks seldom.

    Returns:
        The last answer. It is false when the time was up: the caller knows what error to raise.

    Example:
        if not poll(lambda: kube.get("v1", "Secret", "it", "ns"), timeout=30):
            raise WaitTimeout("no Secret ns/it after 30 s")
    """
    began = time.monotonic()
    while True:
        answer = look()
        elapsed = time.monotonic() - began
        if answer or elapsed >= timeout:
            return answer
        pause = min(interval, max(interval / 5, elapsed / 10)) if growing else interval
        time.sleep(min(pause, timeout - elapsed))
