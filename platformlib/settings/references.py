"""Secrets by reference: parameters name where a secret is, `env:NAME` or `file:PATH`, never the secret itself."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from platformlib.errors import Fault, SettingsError

FORM = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")
LITERAL = "secret_literal"  # the type of the error, whose message must not repeat the value


def _form(value: str) -> str:
    if not FORM.fullmatch(value):
        raise PydanticCustomError(LITERAL, "a reference, `env:NAME` or `file:PATH`, never the secret itself")
    return value


Reference = Annotated[str, AfterValidator(_form), Field(description="env:NAME or file:PATH, never the secret itself")]


def resolve(reference: str, path: str) -> str:
    """The secret behind a reference, without the end of its line.

    Args:
        reference: `env:NAME` or `file:PATH`.
        path: where the reference stands in the parameters; named by the error, which never shows the secret.

    Raises:
        SettingsError: the variable is not set, or the file cannot be read; or it is empty.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        found = os.environ.get(name, "")
    else:
        try:
            found = Path(name).expanduser().read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise SettingsError([Fault(path, reference, f"a file that can be read ({reason})")]) from None
    if not found:
        raise SettingsError([Fault(path, reference, "a variable or file that is not empty")])
    return found
