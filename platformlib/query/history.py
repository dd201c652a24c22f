"""What objects remember of their past: restarts, OOM kills, rollouts, node conditions, jobs.

Every function takes an object and yields rows (time, kind, namespace, object, what, severity, source, detail).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
Row = tuple[str, str, str, str, str, str, str, str]
REVISION = "deployment.kubernetes.io/revision"
# Conditions by what they are when all is well. Of any other, nobody knows: it is information.
HEALTHY_TRUE = frozenset({
    "Ready", "ContainersReady", "Initialized", "PodScheduled", "PodReadyToStartContainers",
    "Available", "Progressing", "Complete", "SuccessCriteriaMet", "EtcdIsVoter",
})  # fmt: skip
HEALTHY_FALSE = frozenset({
    "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "ReplicaFailure", "DisruptionTarget",
    "Failed", "FailureTarget", "Suspended", "PodResizePending",
})  # fmt: skip
ENDED = "PodCompleted"  # the reason why a pod that has done its work is not ready
STATUS = "status"


def _row(obj: Object, time: str | None, what: str, severity: str, detail: str = "", *, name: str = "") -> Iterator[Row]:
    """A row, where the object says when."""
    meta = obj["metadata"]
    if time:
        kind, space = str(obj.get("kind", "")), str(meta.get("namespace", ""))
        yield (time, kind, space, name or str(meta["name"]), what, severity, STATUS, detail)


def conditions(obj: Object) -> Iterator[Row]:
    """When each condition took its present value."""
    for found in obj.get("status", {}).get("conditions") or ():
        what = f"{found['type']}={found['status']}"
        said = ": ".join(filter(None, (found.get("reason"), found.get("message"))))
        yield from _row(obj, found.get("lastTransitionTime"), what, _severity(found), said)


def _severity(condition: Mapping[str, Any]) -> str:
    kind, status = condition["type"], condition["status"]
    if condition.get("reason") == ENDED:
        return "info"
    wrong = (kind in HEALTHY_TRUE and status != "True") or (kind in HEALTHY_FALSE and status != "False")
    return "warning" if wrong else "info"


def pod(obj: Object) -> Iterator[Row]:
    """Its creation, and each container's starts, ends and OOM kills that it still knows."""
    yield from _row(obj, obj["metadata"].get("creationTimestamp"), "Created", "info")
    status = obj.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        yield from _container(obj, container)


def _container(obj: Object, container: Mapping[str, Any]) -> Iterator[Row]:
    name = f"{obj['metadata']['name']}/{container['name']}"
    running = (container.get("state") or {}).get("running") or {}
    if container.get("restartCount"):
        detail = f"restart {container['restartCount']}"
        yield from _row(obj, running.get("startedAt"), "Restarted", "warning", detail, name=name)
    for state in (container.get("lastState") or {}, container.get("state") or {}):
        if ended := state.get("terminated"):
            code, reason = ended.get("exitCode", 0), ended.get("reason") or "Terminated"
            severity = "info" if code == 0 else "error"
            yield from _row(obj, ended.get("finishedAt"), reason, severity, f"exit code {code}", name=name)


def replica_set(obj: Object) -> Iterator[Row]:
    """A Deployment's rollout is the birth of a ReplicaSet."""
    owner = _owner(obj, "Deployment")
    if owner:
        revision = (obj["metadata"].get("annotations") or {}).get(REVISION, "?")
        images = ", ".join(one["image"] for one in obj["spec"]["template"]["spec"]["containers"])
        yield from _rollout(obj, "Deployment", owner, f"revision {revision}: {images}")


def controller_revision(obj: Object) -> Iterator[Row]:
    """A StatefulSet's or DaemonSet's rollout is the birth of a ControllerRevision."""
    for kind in ("StatefulSet", "DaemonSet"):
        if owner := _owner(obj, kind):
            yield from _rollout(obj, kind, owner, f"revision {obj.get('revision', '?')}")


def _rollout(obj: Object, kind: str, owner: str, detail: str) -> Iterator[Row]:
    born = obj["metadata"].get("creationTimestamp")
    yield from _row({**obj, "kind": kind}, born, "RolledOut", "info", detail, name=owner)


def _owner(obj: Object, kind: str) -> str:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(owner["name"]) for owner in owners if owner["kind"] == kind), "")


HISTORIES: Mapping[tuple[str, str], tuple[Callable[[Object], Iterator[Row]], ...]] = {
    ("v1", "Pod"): (pod, conditions),
    ("v1", "Node"): (conditions,),
    ("apps/v1", "ReplicaSet"): (replica_set,),
    ("apps/v1", "ControllerRevision"): (controller_revision,),
    ("apps/v1", "Deployment"): (conditions,),
    ("batch/v1", "Job"): (conditions,),
}
