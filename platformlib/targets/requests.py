"""What the pods of each machine have asked for, against what it has to give."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

ENDED = frozenset({"Succeeded", "Failed"})
RESOURCES = ("cpu", "memory")
UNITS = {"cpu": 1, "memory": 2**20}


def requests(kube: "Kube") -> "pd.DataFrame":
    """node, pods, cpu (cores), cpu_share, memory (MiB), memory_share: asked for, and as a share of the allocatable."""
    import pandas as pd

    pods = [pod for pod in kube.list("v1", "Pod") if pod["status"].get("phase") not in ENDED]
    rows = [
        _row(node, [pod for pod in pods if pod["spec"].get("nodeName") == _name(node)])
        for node in kube.list("v1", "Node")
    ]
    return pd.DataFrame(rows, columns=["node", "pods", "cpu", "cpu_share", "memory", "memory_share"]).round(3)


def _name(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def _row(node: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> list[Any]:
    own = list(pods)
    row: list[Any] = [_name(node), len(own)]
    for resource in RESOURCES:
        asked = sum(_asked(pod, resource) for pod in own)
        row += [asked / UNITS[resource], asked / _amount(node["status"]["allocatable"][resource])]
    return row


def _asked(pod: Mapping[str, Any], resource: str) -> float:
    containers = pod["spec"]["containers"]
    return sum(_amount(each.get("resources", {}).get("requests", {}).get(resource, "0")) for each in containers)


def _amount(quantity: str) -> float:
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call]
