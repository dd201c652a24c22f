"""What the checks of every layer share: the cluster, its nodes, the state of pods."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from platformlib.checks import Check, Found
from platformlib.layers import sources
from platformlib.layers.render import WORKLOADS
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.kube import Kube
    from platformlib.query.loki import Loki
    from platformlib.query.prometheus import Prometheus

Object = dict[str, Any]
CALM = timedelta(seconds=30)  # a container that ended more recently may do so again


@dataclass(frozen=True)
class Context:
    """A platform under test. The one place that knows how its metrics and logs are reached."""

    settings: Settings
    kube: "Kube" = field(repr=False)

    @cached_property
    def nodes(self) -> list[str]:
        """The names that the settings give; those of the cluster itself where they name none."""
        named = [node.name for node in self.settings.cluster.nodes]
        return sorted(named or (node["metadata"]["name"] for node in self.kube.list("v1", "Node")))

    @cached_property
    def control_plane(self) -> int:
        """How many nodes run an API server."""
        roles = [node.role for node in self.settings.cluster.nodes]
        return roles.count("control-plane") or len(
            self.kube.list("v1", "Node", label_selector="node-role.kubernetes.io/control-plane")
        )

    @cached_property
    def prometheus(self) -> "Prometheus":
        """Its metrics, through the API server."""
        return sources.prometheus(self.kube)

    @cached_property
    def loki(self) -> "Loki":
        """Its logs, through the API server."""
        return sources.loki(self.kube)


def same(found: list[str], wanted: list[str]) -> Found:
    """Whether two lists of names are the same, and the difference in words."""
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    words = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unexpected: {', '.join(extra)}"] * bool(extra)
    return not words, "; ".join(words) or ", ".join(sorted(found))


def namespaces(objects: list[Object]) -> list[str]:
    """Where the pods of a layer are, kube-system left out: that is the cluster's."""
    found = {obj["metadata"]["namespace"] for obj in objects if obj["kind"] in WORKLOADS}
    return sorted(found - {"kube-system"})


def pods_run(context: Context, namespace: str) -> Check:
    """All pods of a namespace run and stay."""
    return Check(
        f"pods of {namespace}",
        "every pod is ready or completed, and no container keeps restarting",
        f"kubectl -n {namespace} describe pod NAME; kubectl -n {namespace} logs NAME --previous",
        lambda: _pods(context.kube.list("v1", "Pod", namespace)),
        patience=120,
    )


def _pods(pods: list[Object]) -> Found:
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    bad = {pod["metadata"]["name"]: reason for pod in staying if (reason := unwell(pod, datetime.now(UTC)))}
    words = ", ".join(f"{name}: {reason}" for name, reason in bad.items())
    return bool(staying) and not bad, words or f"{len(staying)} pods"


def unwell(pod: Object, now: datetime) -> str:
    """What is wrong with a pod, or nothing."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return ""
    if status.get("phase") != "Running":
        return str(status.get("phase") or "unknown phase")
    return next(filter(None, (_ails(each, now) for each in status.get("containerStatuses") or [])), "")


def _ails(container: Object, now: datetime) -> str:
    waiting = (container.get("state") or {}).get("waiting")
    if waiting or not container.get("ready"):
        return f"{container['name']} {(waiting or {}).get('reason') or 'is not ready'}"
    ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
    if ended and now - datetime.fromisoformat(ended) < CALM:
        return f"{container['name']} restarted at {ended}"
    return ""
