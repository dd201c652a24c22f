"""Runs the programs that build things: output to a log, heartbeats, a deadline, and no orphans."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from platformlib.errors import BundleError

HEARTBEAT = 5.0  # seconds
TAIL = 20  # lines of the log that an error shows


class StepFailed(BundleError):
    """A program of a build ended badly; the message has the end of its log."""


def tail(log: Path, lines: int = TAIL) -> str:
    return "\n    ".join(log.read_text("utf-8", "replace").rstrip().splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    log: Path,
    timeout: float,
    on_beat: Callable[[], None] = lambda: None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: Path | None = None,
) -> None:
    """Run `argv` to its end, its output appended to `log`, or standard output to `stdout`; raises `StepFailed`.

    The child is ended with us even when we are killed: an orphan would go on writing into the next build's folders.
    """
    words = [str(word) for word in argv]
    with log.open("ab") as err, stdout.open("wb") if stdout else nullcontext(err) as out:
        err.write(f"$ {shlex.join(words)}\n".encode())
        err.flush()
        child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *words],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd, start_new_session=True,
        )  # fmt: skip
    try:
        status = _wait(child, timeout, on_beat)
    except BaseException:
        _stop(child)
        raise
    if status is None:
        _stop(child)
        raise StepFailed(f"`{words[0]}` was still running after {timeout:.0f} s\n    {tail(log)}\n  log: {log}")
    if status != 0:
        raise StepFailed(f"`{words[0]}` ended with status {status}\n    {tail(log)}\n  log: {log}")


def _wait(child: subprocess.Popen[bytes], timeout: float, on_beat: Callable[[], None]) -> int | None:
    """The child's status, or None at the deadline."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(min(HEARTBEAT, max(0.0, end - time.monotonic())))
        on_beat()
    return None


def _stop(child: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Ask it and its children, then insist."""
    _signal(child, signal.SIGTERM)
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        _signal(child, signal.SIGKILL)
        child.wait()


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
