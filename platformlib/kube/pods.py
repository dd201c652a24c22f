"""What is wrong with a pod, and whether waiting can mend it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
class Trouble:
    """A cause. `grace` is the seconds after which it is final; None: waiting may mend it.

    `topic` stays the same while the words change, such as from ErrImagePull to ImagePullBackOff.
    """

    topic: str
    detail: str
    grace: float | None = None
    pod: str = ""
    container: str = ""
    restarts: int = 0
    crashing: bool = False


def trouble(pod: Object) -> Trouble | None:
    """The gravest cause why a pod is not ready."""
    found = [*_containers(pod), *_unscheduled(pod)]
    return max(found, key=lambda each: (each.crashing, each.grace is not None), default=None)


def worst(pods: Iterable[Object]) -> Trouble | None:
    """The gravest cause among pods."""
    found = [each for pod in pods if (each := trouble(pod))]
    return max(found, key=lambda each: (each.grace is not None, each.crashing, each.restarts), default=None)


def _unscheduled(pod: Object) -> Iterator[Trouble]:
    """Never final: a node may join, another pod may leave."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            name, said = pod["metadata"]["name"], condition.get("message", "")
            yield Trouble("Unschedulable", f"pod {name}: {condition.get('reason', 'Unschedulable')}: {said}", pod=name)


def _containers(pod: Object) -> Iterator[Trouble]:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if found := _container(pod["metadata"]["name"], container):
            yield found


def _container(pod: str, status: Mapping[str, Any]) -> Trouble | None:
    name, restarts = status["name"], status.get("restartCount", 0)
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, where = waiting.get("reason", ""), f"pod {pod}, container {name}"
    if reason == "CrashLoopBackOff" or (restarts and not status.get("ready")):
        detail = f"{where}: {restarts} restarts; {_last_end(status)}"
        return Trouble("crash", detail, None, pod, name, restarts, crashing=True)
    if reason in STUCK:
        return Trouble("stuck", f"{where}: {reason}: {waiting.get('message', '')}", STUCK[reason], pod, name)
    return None


def _last_end(status: Mapping[str, Any]) -> str:
    ended = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated") or {}
    said = (ended.get("message") or "").strip()
    return f"last ended with {ended.get('reason', 'Error')} (exit code {ended.get('exitCode', '?')}) {said}".strip()


def selected(pods: Iterable[Object], selector: Mapping[str, Any] | None) -> Objects:
    """The pods that a label selector chooses and that are not on their way out."""
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
