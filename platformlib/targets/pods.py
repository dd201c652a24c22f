"""The cluster's pods: a table of all, whether they run, and what they request of each machine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platformlib.checks import Result, verify

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

DONE = frozenset({"Running", "Succeeded"})
ENDED = frozenset({"Succeeded", "Failed"})
RESOURCES = ("cpu", "memory")
UNITS = {"cpu": 1, "memory": 2**20}


@dataclass(frozen=True)
class Pods:
    """All pods of a cluster."""

    kube: "Kube"

    def table(self) -> "pd.DataFrame":
        """namespace, pod, node, phase, ready, restarts, reason, created (UTC)."""
        return table(self.kube)

    def requests(self) -> "pd.DataFrame":
        """node, pods, cpu, cpu_share, memory (MiB), memory_share: what they request of each machine."""
        return requests(self.kube)

    def verify(self, *, restarts: int) -> "pd.DataFrame":
        """Every pod runs or has done its work, and none restarted more often than that. Raises CheckFailed."""
        return verify(list(checks(self.table(), restarts)))


def table(kube: "Kube") -> "pd.DataFrame":
    """namespace, pod, node, phase, ready, restarts, reason, created (UTC): all pods of the cluster."""
    import pandas as pd

    columns = ["namespace", "pod", "node", "phase", "ready", "restarts", "reason", "created"]
    rows = [_pod(pod) for pod in kube.list("v1", "Pod")]
    return pd.DataFrame(rows, columns=columns).assign(created=lambda table: pd.to_datetime(table["created"], utc=True))


def _pod(pod: dict[str, Any]) -> tuple[Any, ...]:
    meta, status = pod["metadata"], pod["status"]
    containers = status.get("containerStatuses", [])
    waiting = (each["state"].get("waiting", {}).get("reason", "") for each in containers)
    ready = f"{sum(each['ready'] for each in containers)}/{len(pod['spec']['containers'])}"
    restarts = sum(each["restartCount"] for each in containers)
    reason = next(filter(None, waiting), status.get("reason", ""))
    node = pod["spec"].get("nodeName", "")
    return meta["namespace"], meta["name"], node, status["phase"], ready, restarts, reason, meta["creationTimestamp"]


def checks(found: "pd.DataFrame", restarts: int) -> Iterator[Result]:
    """One check a namespace: all its pods run or are done; and one for all: none restarts over and over."""
    for namespace, own in found.groupby("namespace"):
        full = own["ready"].str.split("/").map(lambda pair: pair[0] == pair[1])
        bad = own[~own["phase"].isin(DONE) | ((own["phase"] == "Running") & ~full)]
        shown = ", ".join(f"{row['pod']} {row['reason'] or row['phase']}" for row in bad.to_dict("records"))
        fix = f"kubectl -n {namespace} describe pod, and its logs"
        yield Result(f"pods of {namespace}", bad.empty, f"{len(own)} run or are done", shown or "all do", fix)
    often = found[found["restarts"] > restarts]
    shown = ", ".join(f"{row['pod']} {row['restarts']}" for row in often.to_dict("records"))
    fix = "see the logs of the container's previous run: target.kube.logs(…, previous=True)"
    yield Result("restarts", often.empty, f"none above {restarts}", shown or "none", fix)


def requests(kube: "Kube") -> "pd.DataFrame":
    """node, pods, cpu (cores), cpu_share, memory (MiB), memory_share: the sum, and its share of the allocatable."""
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
