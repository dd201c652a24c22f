"""Progress and failures of pods, Deployments, StatefulSets and DaemonSets, and whether waiting can help."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from platformlib.kube.events import seen_at
from platformlib.kube.objects import Object, Objects

# Seconds for which a container may wait for a reason before it counts as final. A registry may still come up, and a
# Secret may still be written; a name that cannot be parsed stays so.
STUCK = {
    "InvalidImageName": 0.0,
    "ErrImageNeverPull": 15.0,
    "ImagePullBackOff": 60.0,
    "ErrImagePull": 60.0,
    "CreateContainerConfigError": 60.0,
    "CreateContainerError": 60.0,
    "RunContainerError": 60.0,
}
CRASHES = 4  # restarts after which a crash loop is final, if one of them was seen while waiting


@dataclass(frozen=True)
class Failure:
    """Why something is not ready.

    `grace` is the number of seconds after which it is final; None: it may always pass. `topic` stays the same while
    the words change, such as from ErrImagePull to ImagePullBackOff.
    """

    topic: str
    detail: str
    grace: float | None = None
    pod: str = ""
    container: str = ""
    restarts: int = 0
    crashing: bool = False


def pod_failure(pod: Object) -> Failure | None:
    """The worst failure of a pod."""
    found = [*_containers(pod), *_unscheduled(pod)]
    return max(found, key=lambda each: (each.crashing, each.grace is not None), default=None)


def worst(pods: Iterable[Object]) -> Failure | None:
    """The worst failure among pods."""
    found = [each for pod in pods if (each := pod_failure(pod))]
    return max(found, key=lambda each: (each.grace is not None, each.crashing, each.restarts), default=None)


def _unscheduled(pod: Object) -> Iterator[Failure]:
    """Never final: a node may join, another pod may leave."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            name, said = pod["metadata"]["name"], condition.get("message", "")
            yield Failure("Unschedulable", f"pod {name}: {condition.get('reason', 'Unschedulable')}: {said}", pod=name)


def _containers(pod: Object) -> Iterator[Failure]:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if found := _container(pod["metadata"]["name"], container):
            yield found


def _container(pod: str, status: Mapping[str, Any]) -> Failure | None:
    name, restarts = status["name"], status.get("restartCount", 0)
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, where = waiting.get("reason", ""), f"pod {pod}, container {name}"
    if reason == "CrashLoopBackOff" or (restarts and not status.get("ready")):
        detail = f"{where}: {restarts} restarts; {_last_end(status)}"
        return Failure("crash", detail, None, pod, name, restarts, crashing=True)
    if reason in STUCK:
        return Failure("stuck", f"{where}: {reason}: {waiting.get('message', '')}", STUCK[reason], pod, name)
    return None


def _last_end(status: Mapping[str, Any]) -> str:
    ended = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated") or {}
    said = (ended.get("message") or "").strip()
    return f"last ended with {ended.get('reason', 'Error')} (exit code {ended.get('exitCode', '?')}) {said}".strip()


def selected(pods: Iterable[Object], selector: Mapping[str, Any] | None) -> Objects:
    """The pods that a label selector chooses, without terminating ones."""
    return [
        pod
        for pod in pods
        if matches(selector, pod["metadata"].get("labels") or {}) and not pod["metadata"].get("deletionTimestamp")
    ]


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a selector; an empty selector chooses nothing here."""
    if not selector:
        return False
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(rule, labels) for rule in selector.get("matchExpressions") or [])


def _holds(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = rule["key"], rule.get("values") or []
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[rule["operator"]]


def latest(pods: Objects) -> Objects:
    """A Deployment's pods of its newest template: those of an older one are being replaced."""
    if not pods:
        return pods
    newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    template = (newest["metadata"].get("labels") or {}).get("pod-template-hash")
    return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get("pod-template-hash") == template]


# Conditions of a Deployment that stay until something changes, and the seconds in which they may still pass: a second
# run finds those of the first, and their cause may have been fixed.
REFUSED = "FailedCreate"  # a quota or an admission rule refuses the pods
FINAL = {
    ("Progressing", "ProgressDeadlineExceeded"): 60.0,
    ("ReplicaFailure", REFUSED): 30.0,
}
RECENT = timedelta(minutes=2)  # the cause of an older event may have been fixed


def _counts(obj: Object) -> dict[str, int]:
    """wanted, updated, available, total: each kind has other names for these."""
    status, spec = obj.get("status") or {}, obj["spec"]
    if obj["kind"] == "DaemonSet":
        names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
        wanted, updated, available, total = (status.get(name, 0) for name in names)
    else:
        wanted = spec.get("replicas", 1)
        updated, available, total = (
            status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")
        )
    return {"wanted": wanted, "updated": updated, "available": available, "total": total}


def summary(obj: Object) -> str:
    """Such as "2 of 3 available"."""
    counts = _counts(obj)
    return f"{counts['available']} of {counts['wanted']} available"


def incomplete(obj: Object) -> str:
    """What is missing to a finished rollout, or nothing."""
    counts = _counts(obj)
    if counts["updated"] < _to_update(obj, counts["wanted"]):
        return f"{counts['updated']} of {counts['wanted']} updated, {summary(obj)}"
    if counts["available"] < counts["wanted"]:
        return summary(obj)
    if obj["kind"] == "Deployment" and counts["total"] > counts["updated"]:
        return f"{counts['total'] - counts['updated']} old replicas are still there"
    return ""


def _to_update(obj: Object, wanted: int) -> int:
    """Replicas that a rollout replaces by itself: none with OnDelete, those from the partition on otherwise."""
    strategy: dict[str, Any] = obj["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return 0
    return max(0, wanted - ((strategy.get("rollingUpdate") or {}).get("partition") or 0))


def failure(obj: Object, pods: Objects, events: Objects) -> Failure | None:
    """Its own final condition, else the worst failure among its pods, else that its pods are refused."""
    own = selected(pods, obj["spec"].get("selector"))
    of_own, of_parts = _condition(obj), worst(latest(own)) or _refused(obj, own, events)
    if of_own and of_parts:
        return Failure(of_own.topic, f"{of_own.detail}; {of_parts.detail}", of_own.grace, of_parts.pod)
    return of_own or of_parts


def _refused(obj: Object, pods: Objects, events: Objects) -> Failure | None:
    """Only a Deployment has a condition for it; the others have an event."""
    wanted = _counts(obj)["wanted"] if obj["kind"] != "Job" else 1
    about = [each for each in events if each.get("reason") == REFUSED and _same(each["involvedObject"], obj)]
    newest = max(about, key=seen_at, default=None)
    if newest is None or len(pods) >= wanted or datetime.now(UTC) - seen_at(newest) > RECENT:
        return None
    return Failure(REFUSED, f"{REFUSED}: {newest.get('message', '')}", FINAL["ReplicaFailure", REFUSED])


def _same(about: dict[str, Any], obj: Object) -> bool:
    return (about.get("kind"), about.get("name")) == (obj["kind"], obj["metadata"]["name"])


def _condition(obj: Object) -> Failure | None:
    for each in (obj.get("status") or {}).get("conditions") or []:
        grace = FINAL.get((each["type"], each.get("reason", "")))
        broken = each["status"] == ("True" if each["type"] == "ReplicaFailure" else "False")
        if grace is not None and broken:
            return Failure(each["reason"], f"{each['reason']}: {each.get('message', '')}", grace)
    return None
