"""Small workloads that prove something by doing it, and leave nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platformlib.versions import image

if TYPE_CHECKING:
    from platformlib.kube import Kube

Object = dict[str, Any]
NAMESPACE = "default"  # it is always there, and belongs to no layer


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
