"""What typed YAML is made of: closed models, common types, and faults that name their path."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from platformlib.durations import UNIT
from platformlib.errors import Fault

Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="up to 63 small letters, digits and hyphens"),
]
Quantity = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", description="such as 500m, 2Gi")
]
Duration = Annotated[str, Field(pattern=rf"^[0-9]+({UNIT})$", description="such as 30s, 7d")]


class Model(BaseModel):
    """Strict, frozen, and closed: an unknown key is a fault, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# What a validation error means by its type, where the type says it all.
EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text; a number or yes/no has to stand in quotes",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
BOUNDS = {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}


def fault(detail: ErrorDetails, *, known: str, described: Mapping[str, str] = {}, keys: Iterable[str] = ()) -> Fault:
    """A validation error in this package's words.

    Args:
        known: says where the known keys are listed.
        described: what each pattern means, in words.
        keys: all keys that there are, to name one that may be meant.
    """
    path = ".".join(map(str, detail["loc"])) or "the whole"
    match detail["type"]:
        case "extra_forbidden":
            near = get_close_matches(str(detail["loc"][-1]), keys, n=1, cutoff=0.7)
            return Fault(path, "unknown key", f"{f'{near[0]}, or another' if near else 'one'} of the keys in {known}")
        case "missing":
            return Fault(path, "nothing", "a value; it has no default")
        case "secret_literal":  # its value must not be repeated
            return Fault(path, "a literal", detail["msg"])
        case _:
            return Fault(path, repr(detail["input"]), _expected(detail, described))


def _expected(detail: ErrorDetails, described: Mapping[str, str]) -> str:
    context: Mapping[str, object] = detail.get("ctx") or {}
    if "expected" in context:
        return str(context["expected"]).replace("'", "")
    if str(context.get("pattern")) in described:
        return described[str(context["pattern"])]
    bound = next((words.format(context[key]) for key, words in BOUNDS.items() if key in context), "")
    return bound or EXPECTED.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")


def patterns(schema: Any) -> dict[str, str]:
    """Pattern → its description, of everything in a JSON schema."""
    found: dict[str, str] = {}
    for node in _nodes(schema):
        if isinstance(node.get("pattern"), str) and node.get("description"):
            found.setdefault(node["pattern"], str(node["description"]))
    return found


def keys(schema: Any) -> set[str]:
    """All keys of all sections of a JSON schema."""
    return {
        str(key) for node in _nodes(schema) if isinstance(node.get("properties"), dict) for key in node["properties"]
    }


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from _nodes(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _nodes(inner)
