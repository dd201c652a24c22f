"""One named query: its template, its typed parameters, and the safe way from one to the text of a query."""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from platformlib.errors import QueryError
from platformlib.query.quoting import escaped, quoted
from platformlib.query.window import duration, text

Source = Literal["prometheus", "loki", "events"]
Kind = Literal["range", "instant", "lines", "events"]
Picture = Literal["series", "area", "heat", "buckets", "levels", "lanes", "bar", "table"]
Type = Literal["text", "names", "pattern", "duration", "integer", "number"]
DEFAULTS: dict[str, Any] = {"names": None, "pattern": ".+", "text": "", "duration": "5m", "integer": 10, "number": 0.99}
BUILT_IN = frozenset({"rate", "step", "window"})
PLACE = re.compile(r"\$(\w+)")


class Model(BaseModel):
    """Closed and frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Parameter(Model):
    """A parameter of a named query."""

    type: Type
    default: str | int | float | None = None

    @property
    def value(self) -> Any:
        """Its default, or that of its type."""
        return DEFAULTS[self.type] if self.default is None else self.default


class Named(Model):
    """A query of queries.yaml."""

    title: str
    description: str
    query: str
    source: Source = "prometheus"
    kind: Kind = "range"
    unit: str = ""
    picture: Picture = "series"
    labels: list[str] = []
    parameters: dict[str, Parameter] = {}
    empty: str = ""

    def places(self) -> set[str]:
        """Every $name of the template."""
        return set(PLACE.findall(self.query))

    def render(self, values: Mapping[str, Any], *, step: int, rate: int, window: int) -> str:
        """The query's text.

        Raises:
            QueryError: an unknown parameter, or a value that is not of its type.
        """
        if unknown := sorted(set(values) - set(self.parameters)):
            known = ", ".join(sorted(self.parameters)) or "none"
            raise QueryError(f"{self.title}: unknown parameter {unknown[0]!r}", fix=f"its parameters are: {known}")
        given = {name: literal(one, values.get(name, one.value), name) for name, one in self.parameters.items()}
        given |= {"step": text(step), "rate": text(max(rate, step)), "window": text(window)}
        return " ".join(PLACE.sub(lambda found: given[found[1]], self.query).split("\n")).strip()


def literal(parameter: Parameter, value: Any, name: str) -> str:
    """A value as the query's text has it, so that it can be nothing but that value."""
    made = _names(value, value == parameter.value) if parameter.type == "names" else _scalar(parameter.type, value)
    if made is None:
        raise QueryError(f"{name}: {value!r} is no value of type {parameter.type}")
    return made


def _names(value: Any, default: bool) -> str | None:
    """A pattern that matches exactly the names; a default is a pattern already."""
    if value is None or (default and isinstance(value, str)):
        return quoted(value or ".+")
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) for one in names):
        return None
    return quoted("|".join(map(escaped, names)))


def _scalar(kind: Type, value: Any) -> str | None:
    match kind, value:
        case "text" | "pattern", str():
            return quoted(value)
        case "duration", str() | int() | float():
            return text(duration(value))
        case ("integer", int()) | ("number", int() | float()) if not isinstance(value, bool) and isfinite(value):
            return repr(value)
    return None
