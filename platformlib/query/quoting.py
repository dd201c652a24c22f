"""Text inside of PromQL and LogQL: quoted so that it can only ever be that text."""

import json
import re

from platformlib.errors import QueryError

LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted(text: str) -> str:
    """A string literal; both languages read Go's escapes, of which JSON's are a part, but for surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QueryError(f"not Unicode text: {text!r}") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def escaped(text: str) -> str:
    """The text as an RE2 pattern that matches only itself."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def selector(**labels: str | list[str]) -> str:
    """`{namespace="storage", pod=~"a|b"}`: a text matches exactly, a list any of its texts."""
    return "{" + ", ".join(_matcher(name, value) for name, value in labels.items()) + "}"


def _matcher(name: str, value: str | list[str]) -> str:
    if not LABEL.fullmatch(name):
        raise QueryError(f"not a label's name: {name!r}")
    if isinstance(value, str):
        return f"{name}={quoted(value)}"
    return f"{name}=~{quoted('|'.join(map(escaped, value)))}"
