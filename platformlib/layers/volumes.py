"""Volumes outlive their claims for a moment: whoever makes them must stay until they are gone."""

import time
from typing import TYPE_CHECKING, Any

from platformlib.errors import PlatformError, WaitTimeout

if TYPE_CHECKING:
    from platformlib.kube import Kube

Object = dict[str, Any]
INTERVAL = 1.0  # seconds


def wait_released(kube: "Kube", objects: list[Object], *, timeout: float) -> None:
    """Until no volume of the storage classes among `objects` is left.

    Raises:
        PlatformError: a claim still uses one; names them. WaitTimeout: a volume that nobody uses does not go away.
    """
    classes = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "StorageClass"}
    deadline = time.monotonic() + timeout
    while left := _volumes(kube, classes):
        if claims := sorted(_claim(each) for each in left if each["status"].get("phase") == "Bound"):
            raise PlatformError(f"volumes in use: {', '.join(claims)}", fix="delete these claims; their data goes too")
        if time.monotonic() > deadline:
            names = ", ".join(each["metadata"]["name"] for each in left)
            raise WaitTimeout(f"volumes not removed after {timeout:.0f} s: {names}")
        time.sleep(INTERVAL)


def _volumes(kube: "Kube", classes: set[str]) -> list[Object]:
    if not classes:
        return []
    volumes = kube.list("v1", "PersistentVolume")
    # A volume that its owner wants to keep is not the class's to remove.
    return [
        each
        for each in volumes
        if each["spec"].get("storageClassName") in classes
        and each["spec"].get("persistentVolumeReclaimPolicy") != "Retain"
    ]


def _claim(volume: Object) -> str:
    ref = volume["spec"].get("claimRef") or {}
    return f"{ref.get('namespace')}/{ref.get('name')}"
