"""Types of notebooks' parameters: what each accepts, and how that is said to a person.

A notebook writes them as text, so that nothing need be imported: `window: "Duration" = "1h"  # how far back`.
`platformlib run` and papermill refuse a wrong value before a kernel starts; in JupyterLab `pl.bind` does.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import or_
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from platformlib.errors import Fault, ParameterError, QueryError
from platformlib.query.window import duration, moment

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (str, int, float, bool, list, dict, object)} | {"Any": Any}


@dataclass(frozen=True)
class Kind:
    """A type with a name: what it accepts, in words and as a test."""

    words: str
    accepts: Callable[[Any], bool]


def _text(test: Callable[[str], object]) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        try:
            return isinstance(value, str) and bool(test(value))
        except QueryError:
            return False

    return accepts


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


KINDS: Mapping[str, Kind] = {
    "Duration": Kind("a duration such as 90s, 15m, 1h30m or 7d", _text(lambda text: duration(text) > 0)),
    "Moment": Kind(
        "a time such as 2026-11-23T14:05 (UTC), -1h or now", _text(lambda text: moment(text, now=2**62) > 0)
    ),
    "Namespace": Kind("a namespace: up to 63 small letters, digits and hyphens", _text(LABEL.fullmatch)),
    "Name": Kind("a name: small letters, digits, hyphens and dots", _text(SUBDOMAIN.fullmatch)),
    "Version": Kind("a version such as v1.35.5", _text(VERSION.fullmatch)),
    "Seconds": Kind("a whole number of seconds, 1 or more", _whole(1)),
    "Count": Kind("a whole number, 0 or more", _whole(0)),
}


@dataclass(frozen=True)
class Type:
    """What an annotation means: one of KINDS, or a type of Python; with `| None` also nothing."""

    annotation: str
    kind: Kind | None
    plain: Any
    optional: bool

    @property
    def words(self) -> str:
        """What to write."""
        if self.kind is None:
            return self.annotation
        return f"{self.kind.words}, or null" if self.optional else self.kind.words

    def accepts(self, value: Any) -> bool:
        """Whether a value has the type; nothing is converted, but an int may stand for a float."""
        if self.kind:
            return (value is None and self.optional) or self.kind.accepts(value)
        try:
            TypeAdapter(self.plain, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            return False
        return True


def read(node: ast.expr) -> Type:
    """The type that an annotation means; nothing is evaluated.

    Raises:
        ValueError, KeyError: an annotation that is made of anything else.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    text = ast.unparse(node)
    name, optional = text.removesuffix(" | None"), text.endswith(" | None")
    if name in KINDS:
        return Type(text, KINDS[name], None, optional)
    return Type(text, None, _plain(node), optional)


def _plain(node: ast.expr) -> Any:
    match node:
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Constant(value=None):
            return None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return or_(_plain(left), _plain(right))
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=inner)):
            return PLAIN[name][tuple(map(_plain, inner))]
        case ast.Subscript(value=ast.Name(id=name), slice=inner):
            return PLAIN[name][_plain(inner)]
        case _:
            raise ValueError(f"type {ast.unparse(node)!r} is none of {', '.join([*KINDS, *PLAIN])}")


def verify(namespace: Mapping[str, Any]) -> None:
    """Check the parameters of a running notebook, by the annotations that its parameters cell has left.

    Raises:
        ParameterError: with every wrong value.
    """
    faults = list(_faults(namespace))
    if faults:
        raise ParameterError("\n  ".join(["nothing was touched", *map(str, faults)]), fix="correct the parameters cell")


def _faults(namespace: Mapping[str, Any]) -> Iterator[Fault]:
    annotations = namespace.get("__annotations__")
    for name, annotation in (annotations if isinstance(annotations, Mapping) else {}).items():
        if name not in namespace or name.startswith("_"):
            continue
        kind = _known(annotation)
        if kind and not kind.accepts(namespace[name]):
            yield Fault(name, f"{namespace[name]!r} ({type(namespace[name]).__name__})", kind.words)


def _known(annotation: Any) -> Type | None:
    """The type of an annotation of our own, or of a plain type; of anything else nothing is known."""
    if isinstance(annotation, str):
        try:
            return read(ast.Constant(annotation))
        except (ValueError, KeyError, SyntaxError):
            return None
    return Type(annotation.__name__, None, annotation, False) if annotation in {str, int, float, bool} else None
