"""Run a program of this host, or one inside a network namespace."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from platformlib.errors import LabError

# A program that this process started ends with it: one that goes on after a killed `lab up` would work beside the next.
WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


def sh(*argv: str, check: bool = True, stdin: str | None = None) -> str:
    """A program's standard output; LabError with its own words when it fails."""
    done = subprocess.run([*WITH_PARENT, *argv], capture_output=True, text=True, check=False, input=stdin, timeout=120)
    if check and done.returncode:
        raise LabError(f"`{' '.join(argv)}` ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def launch(argv: Sequence[str], log: Path, **environment: str) -> None:
    """Start a program that outlives this process; its output goes to `log`."""
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            check=True,
        )


def inside(namespace: Path, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a network namespace."""
    return ["nsenter", f"--net={namespace}", "--", *argv]
