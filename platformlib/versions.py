"""The pins of `versions.yaml`: image references, Go modules, the Kubernetes version."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def versions() -> dict[str, Any]:
    """All pins, as `versions.yaml` has them."""
    pins: dict[str, Any] = yaml.safe_load(files("platformlib").joinpath("versions.yaml").read_text("utf-8"))
    return pins


def image(name: str) -> str:
    """The upstream reference of one image, such as `registry.k8s.io/pause:3.10.1`."""
    return str(versions()["images"][name])
