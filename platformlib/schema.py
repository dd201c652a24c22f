"""What typed YAML is made of: closed models, common types, and faults that name their path."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from platformlib.durations import UNIT
from platformlib.errors import Fault

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="a DNS label")]
Quantity = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", description="such as 500m, 2Gi")
]
Duration = Annotated[str, Field(pattern=rf"^[0-9]+({UNIT})$", description="such as 30s, 7d")]


class Model(BaseModel):
    """Strict, frozen, and closed: an unknown key is a fault, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def fault(detail: ErrorDetails, *, known: str) -> Fault:
    """A validation error in this package's words; `known` says where the known keys are listed."""
    path = ".".join(map(str, detail["loc"])) or "the whole"
    match detail["type"]:
        case "extra_forbidden":
            return Fault(path, "unknown key", f"one of the keys in {known}")
        case "missing":
            return Fault(path, "nothing", "a value; it has no default")
        case "secret_literal":  # its value must not be repeated
            return Fault(path, "a literal", detail["msg"])
        case _:
            return Fault(path, repr(detail["input"]), detail["msg"].removeprefix("Value error, "))
