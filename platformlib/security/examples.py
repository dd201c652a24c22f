"""What examples of the rules are made of: two namespaces that come and go, and a small pod that keeps every rule."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

from platformlib.errors import PlatformError
from platformlib.security.declared import NAME, SIZE, Object
from platformlib.versions import image

if TYPE_CHECKING:
    from platformlib.kube import Kube

CLOSED = "security-examples"  # as an application's: default deny, a quota, `restricted`
OPEN = "security-examples-open"  # without NetworkPolicies, quota and Pod Security, to see what a policy itself says
MARK = "platformlib.io/examples"
PORT = 8080
LISTEN = f"httpd -f -p {PORT} -h /tmp"
CREATED_WITHIN = 30.0  # seconds until the generating policy has closed the new namespace
CREATED = (
    ("v1", "ServiceAccount", "default"), ("networking.k8s.io/v1", "NetworkPolicy", "default-deny"),
    ("v1", "ResourceQuota", "platform"), ("v1", "LimitRange", "platform"),
)  # fmt: skip
T = TypeVar("T")


@contextmanager
def namespaces(kube: "Kube") -> Iterator[str]:
    """Create the namespaces CLOSED and OPEN, and delete them with all that is in them at the end.

    CLOSED is created as anybody would create an application's namespace. Yields "made" once the generating policy has
    closed it, or what is missing.

    Raises:
        PlatformError: one of the namespaces exists, and was not created here.
    """
    levels = {CLOSED: "restricted", OPEN: "privileged"}
    made = [_namespace(name, level) for name, level in levels.items()]
    for each in made:
        _remove(kube, each)
    try:
        for each in made:
            kube.api.create(each)
        yield _made(kube)
    finally:
        for each in made:
            _remove(kube, each)


def _namespace(name: str, level: str) -> Object:
    modes = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
    size = {SIZE: "small"} if name == CLOSED else {}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {MARK: "true", **size, **modes}},
    }


def _remove(kube: "Kube", namespace: Object) -> None:
    name = namespace["metadata"]["name"]
    live = kube.get("v1", "Namespace", name)
    if live is None:
        return
    if MARK not in (live["metadata"].get("labels") or {}):
        raise PlatformError(
            f"namespace {name} exists, and was not created for examples: it has no label {MARK}",
            fix=f"the examples need the name {name}; move what is in that namespace",
        )
    kube.delete(namespace)


def _made(kube: "Kube") -> str:
    wanted = [(CLOSED, *each) for each in CREATED] + [(OPEN, *CREATED[0])]
    missing = until(lambda: _missing(kube, wanted), lambda found: not found, CREATED_WITHIN)
    return f"missing: {', '.join(missing)}" if missing else "made"


def _missing(kube: "Kube", wanted: list[tuple[str, str, str, str]]) -> list[str]:
    return [
        f"{kind} {name} in {where}" for where, version, kind, name in wanted if not kube.get(version, kind, name, where)
    ]


def until(look: Callable[[], T], wanted: Callable[[T], bool], seconds: float) -> T:
    """Look every half second until it is as wanted, or the time is over. Returns what was seen last."""
    deadline = time.monotonic() + seconds
    while not wanted(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return seen


def pod(
    name: str, namespace: str, script: str = "sleep 3600", *, env: dict[str, str] | None = None, **labels: str
) -> Object:
    """A pod that runs a shell script, ends at once, and requests next to nothing.

    Args:
        env: values for the script. What comes from a cluster goes here, never into the script's text.
    """
    given = {"env": [{"name": key, "value": value} for key, value in env.items()]} if env else {}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {NAME: name, **labels}},
        "spec": {
            "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main", "image": image("busybox"), "command": ["/bin/sh", "-c", script],
                **given,
                "ports": [{"containerPort": PORT, "name": "http"}],
                "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "16Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }  # fmt: skip


def started(kube: "Kube", pod: Object, *, timeout: float) -> Object:
    """Create a pod, and return it once it is ready. Raises: WaitTimeout, TerminalCondition."""
    kube.api.create(pod)
    kube.wait([pod], timeout=timeout)
    live = kube.get("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    assert live is not None  # noqa: S101 - it was waited for
    return live


def merged(base: Any, patch: Any) -> Any:
    """A small strategic merge: mappings by key, lists of named things by name. None removes a key."""
    if isinstance(base, dict) and isinstance(patch, dict):
        keys = {key: merged(base.get(key), value) for key, value in patch.items() if value is not None}
        return {key: value for key, value in base.items() if key not in patch} | keys
    if isinstance(base, list) and isinstance(patch, list) and all("name" in each for each in [*base, *patch]):
        known = {each["name"]: each for each in base}
        return list((known | {each["name"]: merged(_model(base, each), each) for each in patch}).values())
    return deepcopy(patch)


def _model(base: list[Object], patch: Object) -> Object:
    """What a new entry starts from: the one of its name, else the first."""
    return next((each for each in base if each["name"] == patch["name"]), base[0] if base else {})
