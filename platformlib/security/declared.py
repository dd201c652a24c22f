"""What is declared about security, as data of this package and of the settings."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from platformlib import component, composition
from platformlib.errors import PlatformError
from platformlib.settings import Settings
from platformlib.settings.security import Level, Quota

Object = dict[str, Any]
ENFORCE = "pod-security.kubernetes.io/enforce"
KIND, SIZE = "platformlib.io/namespace", "platformlib.io/size"
NAME = "app.kubernetes.io/name"
RESERVED = frozenset({"default", "kube-node-lease", "kube-public", "kube-system"})


@cache
def data(name: str) -> Any:
    """A YAML file of this package."""
    return yaml.safe_load(files("platformlib.security").joinpath(f"{name}.yaml").read_text("utf-8"))


@dataclass(frozen=True)
class Namespace:
    """A namespace under the platform's rules. `exists`: Kubernetes makes it, and its labels are left alone."""

    name: str
    pods: Level
    size: str = ""
    reason: str = ""
    workloads: tuple[str, ...] = ()
    exists: bool = False
    default_deny: bool = True
    application: bool = False
    port: int = 8080
    leftovers: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """The labels that Pod Security, the quota and the policies read."""
        levels = {f"pod-security.kubernetes.io/{mode}": self.pods for mode in ("enforce", "audit", "warn")}
        return {**levels, KIND: "application" if self.application else "platform", SIZE: self.size}


def namespaces(settings: Settings) -> list[Namespace]:
    """Every declared namespace of this platform, those of applications last.

    Raises:
        PlatformError: an application has the name of a namespace of the platform or of Kubernetes.
    """
    lowered = {each.namespace: each for each in settings.security.exceptions}
    own = composition.namespaces(settings)
    taken = RESERVED | set(own) | {each.namespace.name for each in component.packaged().values() if each.namespace}
    if wrong := sorted({each.name for each in settings.security.applications} & taken):
        fix = f"choose another name under security.applications than {', '.join(sorted(taken))}"
        raise PlatformError(f"application {', '.join(wrong)}: a namespace of the platform or of Kubernetes", fix=fix)
    ours = [_platform(each) for each in own.values()]
    return ours + [
        Namespace(
            each.name, lowered[each.name].level if each.name in lowered else settings.security.profile, each.size,
            lowered[each.name].reason if each.name in lowered else "", application=True, port=each.port,
        )
        for each in settings.security.applications
    ]  # fmt: skip


def _platform(own: component.Namespace) -> Namespace:
    return Namespace(
        own.name, own.level, own.size, own.reason, tuple(own.workloads), own.exists, default_deny=not own.open,
        leftovers=tuple(own.leftovers),
    )  # fmt: skip


def applications(settings: Settings) -> list[str]:
    """The namespaces of applications."""
    return [each.name for each in namespaces(settings) if each.application]


def excepted(settings: Settings) -> list[str]:
    """The namespaces whose pods may be below `restricted`, each for its declared reason."""
    return [each.name for each in namespaces(settings) if each.pods == "privileged"] + [
        each.namespace for each in settings.security.exceptions if each.level == "privileged"
    ]


def quota(settings: Settings, size: str) -> Quota:
    """The quota of a size."""
    found: Quota = getattr(settings.security.sizes, size)
    return found


def enforced(settings: Settings) -> bool:
    """Whether policies refuse; otherwise they only warn and report."""
    return settings.security.policies.mode == "enforce"


def schedulable(settings: Settings) -> int:
    """How many nodes take ordinary pods. kubeadm taints its control plane, k3s does not."""
    cluster = settings.cluster
    if cluster.observed:
        return cluster.observed.schedulable
    open_nodes = [node for node in cluster.nodes if not any("NoSchedule" in t or "NoExecute" in t for t in node.taints)]
    workers = [node for node in open_nodes if node.role == "worker" or cluster.distribution != "kubeadm"]
    return max(len(workers), 1)


def meta(name: str, namespace: str = "", **labels: str) -> Object:
    """Metadata of an object of this layer."""
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": {"app.kubernetes.io/component": "security", **labels}}
