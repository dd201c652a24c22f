"""Kyverno from upstream's own manifest: its images pinned, its namespace ours."""

from copy import deepcopy
from functools import cache

from platformlib.bundle.upstream import manifest
from platformlib.kube import parse
from platformlib.security.declared import Object
from platformlib.settings import Settings
from platformlib.versions import versions

NAMESPACE = "kyverno"
GENERATED = ("networking.k8s.io", "networkpolicies"), ("", "resourcequotas"), ("", "limitranges")


def objects(_: Settings) -> list[Object]:
    """Upstream's objects, and the right to generate what the generating policies make."""
    return [*deepcopy(_upstream()), _generator()]


@cache
def _upstream() -> list[Object]:
    found = parse(manifest("kyverno"), source="Kyverno's manifest")
    return [_pinned(_without_nulls(each)) for each in found if each["kind"] != "Namespace"]


def _without_nulls(value: Object) -> Object:
    """Helm leaves `replicas:` and the like empty; applied as null they would take a default away."""
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
