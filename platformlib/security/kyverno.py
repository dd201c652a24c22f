"""Kyverno from upstream's own manifest: images pinned, namespace ours, replicas by the number of nodes."""

from copy import deepcopy
from functools import cache

from platformlib.bundle.upstream import manifest
from platformlib.kube import parse
from platformlib.security.declared import Object, schedulable
from platformlib.settings import Settings
from platformlib.versions import versions

NAMESPACE = "kyverno"
ADMISSION = "kyverno-admission-controller"
MOST = 3  # replicas; more would not outlive more failures, since all have to lose their node at once
PRIORITY = "system-cluster-critical"  # without Kyverno no other pod is admitted, so its pods are scheduled first
GENERATED = ("networking.k8s.io", "networkpolicies"), ("", "resourcequotas"), ("", "limitranges")


def objects(settings: Settings) -> list[Object]:
    """Upstream's objects for this number of nodes, and the right to generate what the generating policies make."""
    replicas = min(schedulable(settings), MOST)
    upstream = [_sized(each, replicas) for each in deepcopy(_upstream())]
    return [*upstream, *([_budget()] if replicas > 1 else []), _generator()]


def _sized(obj: Object, replicas: int) -> Object:
    """The admission controller on as many nodes as there are; upstream's anti-affinity spreads its pods."""
    if obj["kind"] == "Deployment":
        obj["spec"]["template"]["spec"]["priorityClassName"] = PRIORITY
        obj["spec"]["replicas"] = replicas if obj["metadata"]["name"] == ADMISSION else 1
    return obj


def _budget() -> Object:
    """Drains evict one admission controller at a time."""
    labels = {"app.kubernetes.io/component": "admission-controller", "app.kubernetes.io/instance": "kyverno"}
    return {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": ADMISSION, "namespace": NAMESPACE},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }  # fmt: skip


@cache
def _upstream() -> list[Object]:
    found = parse(manifest("kyverno"), source="Kyverno's manifest")
    return [_pinned(_without_nulls(each)) for each in found if each["kind"] != "Namespace"]


def _without_nulls(value: Object) -> Object:
    """Helm leaves `replicas:` and the like empty; applied as null they would remove a default."""
    return {
        key: _without_nulls(each) if isinstance(each, dict) else each for key, each in value.items() if each is not None
    }


def _pinned(obj: Object) -> Object:
    if obj["kind"] == "Deployment":
        spec = obj["spec"]["template"]["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            container["image"] = _pins()[container["image"].rpartition(":")[0]]
    return obj


def _pins() -> dict[str, str]:
    return {str(image).rpartition(":")[0]: str(image) for image in versions()["images"].values()}


def _generator() -> Object:
    rules = [
        {
            "apiGroups": [group],
            "resources": [plural],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        }
        for group, plural in GENERATED
    ]
    labels = {"rbac.kyverno.io/aggregate-to-background-controller": "true"}
    metadata = {"name": "kyverno:generate-platform", "labels": labels}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}
