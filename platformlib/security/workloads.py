"""Small pods that keep every rule of the platform, to be changed by an example or to talk to each other."""

from copy import deepcopy
from typing import Any

from platformlib.security.declared import NAME, Object
from platformlib.versions import image

PORT = 8080
LISTEN = f"httpd -f -p {PORT} -h /tmp"


def pod(name: str, namespace: str, script: str = "sleep 3600", **labels: str) -> Object:
    """A pod that runs a shell script, stops at once, and asks for next to nothing."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {NAME: name, **labels}},
        "spec": {
            "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main", "image": image("busybox"), "command": ["/bin/sh", "-c", script],
                "ports": [{"containerPort": PORT, "name": "http"}],
                "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "16Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }  # fmt: skip


def laid_over(base: Any, patch: Any) -> Any:
    """A strategic merge in small: mappings by key, lists of named things by name; None takes away."""
    if isinstance(base, dict) and isinstance(patch, dict):
        keys = {key: laid_over(base.get(key), value) for key, value in patch.items() if value is not None}
        return {key: value for key, value in base.items() if key not in patch} | keys
    if isinstance(base, list) and isinstance(patch, list) and all("name" in each for each in [*base, *patch]):
        known = {each["name"]: each for each in base}
        return list((known | {each["name"]: laid_over(_model(base, each), each) for each in patch}).values())
    return deepcopy(patch)


def _model(base: list[Object], patch: Object) -> Object:
    """What a new entry starts from: the one of its name, else the first."""
    return next((each for each in base if each["name"] == patch["name"]), base[0] if base else {})
