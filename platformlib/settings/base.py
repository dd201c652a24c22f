"""What the sections of a parameters file are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="a DNS label")]
Quantity = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", description="such as 500m, 2Gi")
]


class Model(BaseModel):
    """Strict, frozen, and closed: an unknown key is a fault, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
