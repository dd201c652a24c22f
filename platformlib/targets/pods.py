"""The cluster's pods: a table of all, whether they run, and what they request of each machine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from platformlib.checks import Result, verify
from platformlib.errors import KubeError
from platformlib.kube.workloads import pod_failure

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

DONE = frozenset({"Running", "Succeeded"})
ENDED = frozenset({"Succeeded", "Failed"})
RESOURCES = ("cpu", "memory")
LAST = 8  # warnings and log lines of an explanation


@dataclass(frozen=True)
class Pods:
    """All pods of a cluster."""

    kube: "Kube"

    def table(self) -> "pd.DataFrame":
        """namespace, pod, node, phase, ready, restarts, reason, created (UTC)."""
        return table(self.kube)

    def requests(self) -> "pd.DataFrame":
        """node, pods, cpu, cpu_share, memory (bytes), memory_share: what they request of each machine."""
        return requests(self.kube)

    def troubled(self) -> "pd.DataFrame":
        """namespace, pod, node, reason, restarts, cause: the pods that do not do what they should, and why."""
        return troubled(self.kube)

    def explain(self, pod: str) -> "pd.DataFrame":
        """Why a pod is as it is: its cause, owner, images, limits, last end, warnings and last lines.

        Args:
            pod: its name, or `namespace/name` where several namespaces have one of that name.

        Returns:
            Columns: about, found.

        Raises:
            KubeError: no such pod, or several.
        """
        return explain(self.kube, pod)

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
        fix = "; ".join(f'target.pods.explain("{namespace}/{name}")' for name in bad["pod"].head(3))
        yield Result(f"pods of {namespace}", bad.empty, f"{len(own)} run or are done", shown or "all do", fix)
    often = found[found["restarts"] > restarts]
    shown = ", ".join(f"{row['pod']} {row['restarts']}" for row in often.to_dict("records"))
    first = often.head(3).to_dict("records")
    fix = "; ".join(f'target.pods.explain("{row["namespace"]}/{row["pod"]}")' for row in first)
    yield Result("restarts", often.empty, f"none above {restarts}", shown or "none", fix)


def requests(kube: "Kube") -> "pd.DataFrame":
    """node, pods, cpu (cores), cpu_share, memory (MiB), memory_share: the sum, and its share of the allocatable."""
    import pandas as pd

    pods = [pod for pod in kube.list("v1", "Pod") if pod["status"].get("phase") not in ENDED]
    rows = [
        _row(node, [pod for pod in pods if pod["spec"].get("nodeName") == _name(node)])
        for node in kube.list("v1", "Node")
    ]
    made = pd.DataFrame(rows, columns=["node", "pods", "cpu", "cpu_share", "memory", "memory_share"]).round(3)
    made.attrs["units"] = {"cpu": "cores", "memory": "bytes"}
    return made


def troubled(kube: "Kube") -> "pd.DataFrame":
    """namespace, pod, node, reason, restarts, cause: pods that are neither ready nor done, and pods that crash."""
    import pandas as pd

    rows = []
    for pod in kube.list("v1", "Pod"):
        namespace, name, node, phase, ready, restarts, reason, _ = _pod(pod)
        count, of = ready.split("/")
        if phase in DONE and (phase == "Succeeded" or count == of):
            continue
        found = pod_failure(pod)
        cause = found.detail if found else f"{ready} containers are ready"
        rows.append((namespace, name, node, reason or phase, restarts, cause))
    made = pd.DataFrame(rows, columns=["namespace", "pod", "node", "reason", "restarts", "cause"])
    made.attrs |= {"title": "Pods in trouble", "empty": "every pod runs, or has done its work"}
    return made


def explain(kube: "Kube", name: str) -> "pd.DataFrame":
    """about, found: see `Pods.explain`."""
    import pandas as pd

    pod = _one(kube, name)
    rows = [*_state(pod), *_owner(kube, pod), *_containers(pod), *_warnings(kube, pod), *_lines(kube, pod)]
    made = pd.DataFrame(rows, columns=["about", "found"])
    made.attrs["title"] = f"{pod['metadata']['namespace']}/{_name(pod)}"
    return made


def _one(kube: "Kube", name: str) -> Mapping[str, Any]:
    """The pod of that name. Raises KubeError with names that are near."""
    namespace, _, short = name.rpartition("/")
    every = kube.list("v1", "Pod", namespace or None)
    found = [pod for pod in every if _name(pod) == short]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{pod['metadata']['namespace']}/{short}" for pod in found)
        raise KubeError(f"several pods are named {short}", fix=f"one of: {names}")
    near = get_close_matches(short, map(_name, every), n=3, cutoff=0.4)
    raise KubeError(
        f"no pod is named {name}", fix=f"one of: {', '.join(near)}" if near else "target.pods.table() lists them"
    )


def _state(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    _, _, node, phase, ready, restarts, reason, created = _pod(dict(pod))
    found = pod_failure(dict(pod))
    yield (
        "state",
        ", ".join(filter(None, (phase, reason, f"{ready} ready", f"{restarts} restarts" if restarts else ""))),
    )
    if found:
        yield "cause", found.detail
    yield "node", node or "none yet"
    yield "created", str(created)


def _owner(kube: "Kube", pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who made the pod, up to the Deployment, and when that was rolled out last."""
    namespace, owner = pod["metadata"]["namespace"], _controller(pod)
    if owner and owner["kind"] == "ReplicaSet":
        made = kube.get("apps/v1", "ReplicaSet", owner["name"], namespace)
        if made:
            yield "rolled out", str(made["metadata"].get("creationTimestamp", ""))
            owner = _controller(made) or owner
    if owner:
        yield "owner", f"{owner['kind']} {owner['name']}"


def _controller(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next(iter(obj["metadata"].get("ownerReferences") or ()), None)


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    status = {one["name"]: one for one in pod["status"].get("containerStatuses") or ()}
    for container in pod["spec"]["containers"]:
        name = container["name"]
        yield f"{name}: image", container["image"]
        for kind in ("limits", "requests"):
            asked = (container.get("resources") or {}).get(kind) or {}
            yield f"{name}: {kind}", ", ".join(f"{key} {value}" for key, value in sorted(asked.items())) or "none"
        own = status.get(name, {})
        if waiting := (own.get("state") or {}).get("waiting"):
            yield f"{name}: waits", ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
        for ended in filter(None, ((own.get(key) or {}).get("terminated") for key in ("lastState", "state"))):
            yield (
                f"{name}: ended",
                f"{ended.get('finishedAt')} {ended.get('reason')}, exit code {ended.get('exitCode')}",
            )


def _warnings(kube: "Kube", pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    events = kube.events(pod["metadata"]["namespace"], warnings=True)
    for event in events[events["name"] == _name(pod)].tail(LAST).to_dict("records"):
        often = f" ({event['count']} times)" if event["count"] > 1 else ""
        yield f"warning {event['time']:%H:%M:%S}", f"{event['reason']}: {event['message']}{often}"


def _lines(kube: "Kube", pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What its containers said last; of one that restarted, what it said before it ended."""
    for own in pod["status"].get("containerStatuses") or ():
        restarted = bool(own.get("restartCount"))
        if own.get("ready") and not restarted:
            continue
        try:
            said = kube.logs(pod["metadata"]["namespace"], _name(pod), own["name"], tail=LAST, previous=restarted)
        except KubeError as error:
            said = f"none: {str(error).splitlines()[0]}"
        yield f"{own['name']}: last lines", said.strip() or "none"


def _name(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def _row(node: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> list[Any]:
    own = list(pods)
    row: list[Any] = [_name(node), len(own)]
    for resource in RESOURCES:
        asked = sum(_asked(pod, resource) for pod in own)
        row += [asked, asked / _amount(node["status"]["allocatable"][resource])]
    return row


def _asked(pod: Mapping[str, Any], resource: str) -> float:
    containers = pod["spec"]["containers"]
    return sum(_amount(each.get("resources", {}).get("requests", {}).get(resource, "0")) for each in containers)


def _amount(quantity: str) -> float:
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call]
