"""Run a program of this host, or one inside a network namespace."""

import subprocess
from collections.abc import Sequence

from platformlib.errors import LabError


def sh(*argv: str, check: bool = True, stdin: str | None = None) -> str:
    """A program's standard output; LabError with its own words when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, input=stdin, timeout=120)
    if check and done.returncode:
        raise LabError(f"`{' '.join(argv)}` ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a network namespace."""
    return ["ip", "netns", "exec", namespace, *argv]
