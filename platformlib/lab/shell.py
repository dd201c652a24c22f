"""Run a program of this host, or one inside a network namespace."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from platformlib.errors import LabError


def sh(*argv: str, check: bool = True, stdin: str | None = None) -> str:
    """A program's standard output; LabError with its own words when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, input=stdin, timeout=120)
    if check and done.returncode:
        raise LabError(f"`{' '.join(argv)}` ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def launch(argv: Sequence[str], log: Path, **environment: str) -> None:
    """Start a program that outlives this process; its words go to `log`."""
    with log.open("ab") as words:
        subprocess.run(
            ["setsid", "--fork", *argv],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=os.environ | environment,
            check=True,
        )


def inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a network namespace."""
    return ["ip", "netns", "exec", namespace, *argv]
