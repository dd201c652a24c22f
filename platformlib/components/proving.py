"""What the checks of components share: the platform under test, its pods, and small workloads that prove by doing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from platformlib import component, composition
from platformlib.checks import Check, Found
from platformlib.component import Component
from platformlib.settings import Settings
from platformlib.versions import image

if TYPE_CHECKING:
    from platformlib.kube import Kube
    from platformlib.query.loki import Loki
    from platformlib.query.prometheus import Prometheus

Object = dict[str, Any]
CALM = timedelta(seconds=30)  # a container that ended more recently may do so again
NAMESPACE = "default"  # of probes: it is always there, and belongs to no layer
# A changed file reaches a pod within a minute and a half, and Prometheus reads it again every 30 s.
SCRAPED_WITHIN = 180.0  # seconds


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
        return prometheus(self.kube, self.settings)

    @cached_property
    def loki(self) -> "Loki":
        """Its logs, through the API server."""
        return loki(self.kube, self.settings)


def prometheus(kube: "Kube", settings: Settings) -> "Prometheus":
    """A platform's metrics: through the API server, with the kubeconfig's credentials."""
    from platformlib.query import Prometheus, connect

    service = _service(settings, "metrics")
    return Prometheus(transport=connect(lambda: kube.service(*service), name="prometheus"))


def loki(kube: "Kube", settings: Settings) -> "Loki":
    """A platform's logs: through the API server, with the kubeconfig's credentials."""
    from platformlib.query import Loki, connect

    service = _service(settings, "logs")
    return Loki(connect(lambda: kube.service(*service), name="loki"))


def _service(settings: Settings, what: Literal["metrics", "logs"]) -> tuple[str, str, int]:
    """Namespace, name and port. A platform without its own is asked as one that has it, so that the answer says so."""
    every = component.packaged().values()
    found = composition.provider(settings, what) or next(each for each in every if what in each.provides)
    assert found.namespace is not None  # noqa: S101 - a service is in a namespace
    return found.namespace.name, found.name, found.provides[what]


def same(found: list[str], wanted: list[str]) -> Found:
    """Whether two lists of names are the same, and the difference in words."""
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    words = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unexpected: {', '.join(extra)}"] * bool(extra)
    return not words, "; ".join(words) or ", ".join(sorted(found))


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


def targets(context: Context, members: Iterable[Component]) -> dict[str, int]:
    """Scrape job → how many of its targets have to be up."""
    found: Counter[str] = Counter()
    cluster = context.settings.cluster.distribution
    for each in members:
        for job in each.scrape:
            found[job.job] += job.count(cluster, nodes=len(context.nodes), control_plane=context.control_plane)
    return dict(sorted(found.items()))


def targets_up(context: Context, members: Iterable[Component]) -> list[Check]:
    """The scrape targets of some components; no check where they have none."""
    wanted = targets(context, members)
    check = Check(
        "scrape targets",
        ", ".join(f"{job} {count}" for job, count in wanted.items()),
        "target.prometheus.targets() has the error of each; then look at the pod behind it",
        lambda: _up(context, wanted),
        patience=SCRAPED_WITHIN,
    )
    return [check] if wanted else []


def _up(context: Context, wanted: dict[str, int]) -> Found:
    every = context.prometheus.targets()
    found = every[every["job"].isin(list(wanted))]
    up = Counter(found.loc[found["health"] == "up", "job"])
    short = [f"{job}: {up[job]} of {count} up" for job, count in wanted.items() if up[job] < count]
    down = found[found["health"] != "up"]
    short += [f"{job} {instance}: {error}" for job, instance, error in down[["job", "instance", "error"]].to_numpy()]
    return not short, "; ".join(short) or f"{len(found)} targets up"


@contextmanager
def alone(kube: "Kube", name: str) -> Iterator[str]:
    """The inventory name of one probe: what a killed run left is removed first, what this one makes is removed last.

    Two runs at the same time take turns.
    """
    layer = f"probe-{name}"
    with kube.lock(layer):
        kube.uninstall(layer)
        try:
            yield layer
        finally:
            kube.uninstall(layer)


def meta(name: str) -> Object:
    """Metadata of a probe's object."""
    return {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": name}}


def pod(name: str, script: str, env: dict[str, str] | None = None, volumes: dict[str, Object] | None = None) -> Object:
    """A pod template that runs a shell script under the restricted pod security standard. `$NODE` is its node."""
    own: Object = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    given: dict[str, Object] = {"tmp": {"emptyDir": {}}, **(volumes or {})}
    container: Object = {
        "name": "probe",
        "image": image("busybox"),
        "command": ["/bin/sh", "-c", script],
        "workingDir": "/tmp",  # noqa: S108  an emptyDir of the pod
        "env": [own, *({"name": key, "value": value} for key, value in (env or {}).items())],
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"cpu": "250m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": key, "mountPath": f"/{key}"} for key in given],
    }
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": key, **source} for key, source in given.items()],
        },
    }  # fmt: skip


def job(name: str, template: Object, *, seconds: int) -> Object:
    """A Job of one pod, tried once, within `seconds`."""
    template["spec"]["restartPolicy"] = "Never"
    spec = {"backoffLimit": 0, "activeDeadlineSeconds": seconds, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta(name), "spec": spec}
