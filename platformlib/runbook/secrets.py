"""Refuses what looks like a secret: parameters are written into the executed notebook and the journal."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from platformlib.errors import Fault

KEYS = re.compile(r"pass(word|wd|phrase)|token|secret|credential|(api|access|private|encryption)_?key", re.IGNORECASE)
SHAPES = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"\bAKIA[0-9A-Z]{16}\b",  # AWS
    r"\bgh[pousr]_\w{20,}|\bglpat-\w{10,}",  # GitHub, GitLab
    r"\beyJ[\w-]{10,}\.[\w-]{10,}\.",  # a JSON web token
    r"://[^/\s:@]+:[^/\s:@]+@",  # a URL with a password in it
)
VALUES = re.compile("|".join(SHAPES))
REFERENCE = re.compile(r"^(env|file):\S+$")
EXPECTED = "a reference, `env:NAME` or `file:PATH`, never the secret itself"


def literal_secrets(values: Any, path: str = "") -> Iterator[Fault]:
    """A fault for each literal secret in nested parameters. No fault repeats the value."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _of_key(str(key), value, f"{path}.{key}".lstrip("."))
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from literal_secrets(value, f"{path}.{index}")
    elif isinstance(values, str) and VALUES.search(values):
        yield Fault(path, "a value that looks like a secret", EXPECTED)


def _of_key(key: str, value: Any, path: str) -> Iterator[Fault]:
    scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    if KEYS.search(key) and scalar and str(value) and not REFERENCE.match(str(value)):
        yield Fault(path, "a literal under a name that means a secret", EXPECTED)
    else:
        yield from literal_secrets(value, path)
