"""When an object is ready: a table of rules by kind, on plain objects. A rule sees other objects through a view."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from platformlib.kube import workloads
from platformlib.kube.objects import Object, Objects
from platformlib.kube.workloads import Failure, pod_failure


class View(Protocol):
    """The cluster at one moment."""

    def list(self, api_version: str, kind: str, namespace: str = "") -> Objects:
        """Every object of a kind."""


@dataclass(frozen=True)
class Readiness:
    """Whether an object is ready; `detail` says how far it is, `failure` why it is not."""

    ready: bool
    detail: str
    failure: Failure | None = None


Rule = Callable[[Object, View], Readiness]


def assess(obj: Object | None, view: View) -> Readiness:
    """By the rule of its kind. An object of another kind is ready by its condition Ready or Available.

    What has neither is there, and no more can be said: its detail is "exists".
    """
    if obj is None:
        return Readiness(False, "does not exist")
    if obj["metadata"].get("deletionTimestamp"):
        return Readiness(False, "is being deleted")
    group = obj["apiVersion"].rpartition("/")[0]
    return RULES.get((group, obj["kind"]), generic)(obj, view)


def condition(obj: Object, kind: str) -> dict[str, Any]:
    """One condition of an object's status, or an empty one."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def said(found: dict[str, Any]) -> str:
    """A condition in words."""
    text = f"{found.get('type')}={found.get('status')} {found.get('reason', '')}: {found.get('message', '')}"
    return text.rstrip(": ")


def stale(obj: Object) -> str:
    """Why the status cannot be believed yet, or nothing."""
    wanted, seen = obj["metadata"].get("generation", 0), (obj.get("status") or {}).get("observedGeneration")
    return f"generation {wanted} is not yet observed (last: {seen})" if (seen or 0) < wanted else ""


def by_condition(kind: str) -> Rule:
    """Ready when the condition `kind` is true."""

    def rule(obj: Object, _: View) -> Readiness:
        found = condition(obj, kind)
        return Readiness(found.get("status") == "True", said(found) if found else f"has no condition {kind} yet")

    return rule


def generic(obj: Object, view: View) -> Readiness:
    """Conditions Ready or Available when there is one and it is of this generation."""
    if "observedGeneration" in (obj.get("status") or {}) and (reason := stale(obj)):
        return Readiness(False, reason)
    known = next((kind for kind in ("Ready", "Available") if condition(obj, kind)), None)
    return by_condition(known)(obj, view) if known else Readiness(True, "exists")


def workload(obj: Object, view: View) -> Readiness:
    """Deployments, StatefulSets, DaemonSets: every replica of the newest template is available."""
    reason = stale(obj) or workloads.incomplete(obj)
    if not reason:
        return Readiness(True, workloads.summary(obj))
    if stale(obj):
        return Readiness(False, reason)
    namespace = obj["metadata"]["namespace"]
    return Readiness(
        False, reason, workloads.failure(obj, view.list("v1", "Pod", namespace), view.list("v1", "Event", namespace))
    )


def job(obj: Object, view: View) -> Readiness:
    """Complete; Failed is final."""
    failed = condition(obj, "Failed")
    if failed.get("status") == "True":
        return Readiness(False, said(failed), Failure("failed", said(failed), 0))
    done, status = condition(obj, "Complete").get("status") == "True", obj.get("status") or {}
    counts = ", ".join(f"{status.get(key, 0)} {key}" for key in ("active", "succeeded", "failed"))
    if done:
        return Readiness(True, counts)
    namespace = obj["metadata"]["namespace"]
    return Readiness(
        False, counts, workloads.failure(obj, view.list("v1", "Pod", namespace), view.list("v1", "Event", namespace))
    )


def pod(obj: Object, _: View) -> Readiness:
    """Ready, or Succeeded."""
    status = obj.get("status") or {}
    phase = status.get("phase", "Pending")
    if phase == "Succeeded" or condition(obj, "Ready").get("status") == "True":
        return Readiness(True, phase)
    words = f"{phase} {status.get('reason', '')} {status.get('message', '')}".strip()
    return Readiness(False, words, Failure("failed", words, 0) if phase == "Failed" else pod_failure(obj))


def claim(obj: Object, view: View) -> Readiness:
    """Bound; or unbound because its class waits for the first consumer."""
    phase, spec = (obj.get("status") or {}).get("phase", "Pending"), obj["spec"]
    if phase == "Lost":
        return Readiness(False, phase, Failure("lost", "its volume is gone", 0))
    if phase == "Bound":
        return Readiness(True, f"Bound to {spec.get('volumeName', '')}")
    classes = view.list("storage.k8s.io/v1", "StorageClass")
    own = next((each for each in classes if each["metadata"]["name"] == spec.get("storageClassName")), {})
    if own.get("volumeBindingMode") != "WaitForFirstConsumer":
        return Readiness(False, f"{phase}, class {spec.get('storageClassName') or 'none'}")
    used = any(_uses(each, obj["metadata"]["name"]) for each in view.list("v1", "Pod", obj["metadata"]["namespace"]))
    return Readiness(not used, f"{phase}, {'in use' if used else 'waits for its first consumer'}")


def _uses(pod: Object, claim: str) -> bool:
    volumes = pod["spec"].get("volumes") or []
    return any((each.get("persistentVolumeClaim") or {}).get("claimName") == claim for each in volumes)


def service(obj: Object, view: View) -> Readiness:
    """With a selector: at least one ready endpoint."""
    if not obj["spec"].get("selector"):
        return Readiness(True, "has no selector")
    count = _endpoints(obj["metadata"]["namespace"], obj["metadata"]["name"], view)
    return Readiness(count > 0, f"{count} ready endpoints")


def _endpoints(namespace: str, name: str, view: View) -> int:
    slices = view.list("discovery.k8s.io/v1", "EndpointSlice", namespace)
    own = [each for each in slices if (each["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name]
    endpoints = [endpoint for each in own for endpoint in each.get("endpoints") or []]
    # An absent "ready" means ready.
    return sum((endpoint.get("conditions") or {}).get("ready") is not False for endpoint in endpoints)


def webhook(obj: Object, view: View) -> Readiness:
    """Every service that it calls has an endpoint, and its certificate is known."""
    for hook in obj.get("webhooks") or []:
        target = hook["clientConfig"].get("service")
        if target and not hook["clientConfig"].get("caBundle"):
            return Readiness(False, f"{hook['name']} has no caBundle yet")
        if target and not _endpoints(target["namespace"], target["name"], view):
            return Readiness(False, f"{hook['name']}: {target['namespace']}/{target['name']} has no ready endpoint")
    return Readiness(True, "its services answer")


def phase(*good: str) -> Rule:
    """Ready in one of these phases."""

    def rule(obj: Object, _: View) -> Readiness:
        found = (obj.get("status") or {}).get("phase", "none")
        return Readiness(found in good, f"phase {found}")

    return rule


RULES: dict[tuple[str, str], Rule] = {
    ("apps", "Deployment"): workload,
    ("apps", "StatefulSet"): workload,
    ("apps", "DaemonSet"): workload,
    ("batch", "Job"): job,
    ("", "Pod"): pod,
    ("", "PersistentVolumeClaim"): claim,
    ("", "PersistentVolume"): phase("Available", "Bound"),
    ("", "Namespace"): phase("Active"),
    ("", "Node"): by_condition("Ready"),
    ("", "Service"): service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): by_condition("Established"),
    ("apiregistration.k8s.io", "APIService"): by_condition("Available"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): webhook,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): webhook,
}
