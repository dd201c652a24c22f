"""The parameters that a person gives: files, deep-merged in their order, then single values."""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from platformlib.errors import ParameterError
from platformlib.settings.load import located


class Typed(str):
    """A value as it was typed on a command line: it is read as YAML, or kept as text where text is wanted."""

    __slots__ = ()

    def as_yaml(self) -> Any:
        """`3` as a number, `true` as a truth value, `[a, b]` as a list; a date stays text."""
        try:
            value = yaml.safe_load(self)
        except yaml.YAMLError:
            return str(self)
        return str(self) if isinstance(value, datetime.date) else value


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """`second` over `first`; mappings are merged key by key, anything else is replaced."""
    both = {key: merged(first[key], second[key]) for key in first.keys() & second.keys() if _nested(first, second, key)}
    return {**first, **second, **both}


def _nested(first: Mapping[str, Any], second: Mapping[str, Any], key: str) -> bool:
    return isinstance(first[key], Mapping) and isinstance(second[key], Mapping)


def from_files(paths: Iterable[str | Path]) -> dict[str, Any]:
    """Several parameters files as one mapping; a later file has the last word.

    Raises:
        ParameterError: a file that cannot be read, or does not hold a mapping.
    """
    result: dict[str, Any] = {}
    for path in paths:
        result = merged(result, _read(Path(path)))
    return result


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        raise ParameterError(f"{path}: {reason}", fix="give a readable YAML file") from None
    if not isinstance(document, Mapping):
        raise ParameterError(
            f"{path}: holds {type(document).__name__}, not a mapping", fix="see parameters/example.yaml"
        )
    platform = document.get("platform")
    return {**document, "platform": located(platform, path.parent)} if isinstance(platform, Mapping) else document


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """`["until=storage"]` as `{"until": "storage"}`, not yet converted.

    Raises:
        ParameterError: a text without `=`, or without a name before it.
    """
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise ParameterError(f"not an assignment: {', '.join(map(repr, wrong))}", fix="-p NAME=VALUE")
    return {name: Typed(value) for name, _, value in pairs}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"platform.cluster.distribution": "k3s"}` as nested mappings."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *parents, leaf = name.split(".")
        inner = value.as_yaml() if parents and isinstance(value, Typed) else value
        tree: dict[str, Any] = {leaf: inner}
        for key in reversed(parents):
            tree = {key: tree}
        result = merged(result, tree)
    return result
