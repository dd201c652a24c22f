"""Pod Security Standards: a label on each namespace, exceptions with their reasons, and what each pod really has."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from platformlib.kube.objects import DATA, LEFTOVERS
from platformlib.security.declared import ENFORCE, NAME, Namespace, Object, namespaces
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

HOST = ("hostNetwork", "hostPID", "hostIPC")


def objects(settings: Settings) -> list[Object]:
    """The namespaces, labelled for enforcement, audit and warning. Those of applications are kept by uninstall."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": _metadata(each)}
        for each in namespaces(settings)
        if not each.exists
    ]


def _metadata(namespace: Namespace) -> Object:
    notes = {DATA: "true"} if namespace.application else {}
    if namespace.leftovers:
        notes[LEFTOVERS] = " ".join(namespace.leftovers)
    return {"name": namespace.name, "labels": namespace.labels, **({"annotations": notes} if notes else {})}


def table(settings: Settings) -> "pd.DataFrame":
    """The declared profile.

    Returns:
        Columns: namespace, level, workloads (who needs a level below `restricted`), reason.
    """
    import pandas as pd

    rows = [[each.name, each.pods, ", ".join(each.workloads), each.reason] for each in namespaces(settings)]
    return pd.DataFrame(rows, columns=["namespace", "level", "workloads", "reason"])


def pods(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """Every pod against the standard `restricted`.

    Returns:
        Columns: namespace, pod, app, enforced (the namespace's level), faults (what `restricted` refuses), allowed
        (no fault, or a declared exception).
    """
    import pandas as pd

    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in kube.list("v1", "Namespace")}
    declared = {each.name: each for each in namespaces(settings)}
    rows = [
        {**_who(pod), "enforced": labels.get(pod["metadata"]["namespace"], {}).get(ENFORCE, ""),
         "faults": ", ".join(found := list(faults(pod["spec"]))), "allowed": not found or _may(pod, declared)}
        for pod in kube.list("v1", "Pod")
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["namespace", "pod", "app", "enforced", "faults", "allowed"])


def _who(pod: Object) -> dict[str, str]:
    metadata = pod["metadata"]
    return {"namespace": metadata["namespace"], "pod": metadata["name"], "app": app(pod)}


def app(pod: Object) -> str:
    """The recommended label, or the one that older components have in its place."""
    labels = pod["metadata"].get("labels") or {}
    return str(next((labels[key] for key in (NAME, "k8s-app", "component", "app") if key in labels), ""))


def _may(pod: Object, declared: dict[str, Namespace]) -> bool:
    where = declared.get(pod["metadata"]["namespace"])
    if where is None or where.pods != "privileged":
        return False
    return not where.workloads or any(_is(pod, each) for each in (*where.workloads, "kube-dns"))


def _is(pod: Object, workload: str) -> bool:
    """Whether a pod is of a declared workload: its app, or a pattern of what started it such as DaemonSet/svclb-*."""
    return fnmatchcase(starter(pod), workload) if "/" in workload else app(pod) == workload


def starter(pod: Object) -> str:
    """Kind and name of the controller that made a pod; of the pod itself where it has none."""
    owners = pod["metadata"].get("ownerReferences") or []
    found = next((f"{each['kind']}/{each['name']}" for each in owners if each.get("controller")), "")
    return found or f"Pod/{pod['metadata']['name']}"


def faults(spec: dict[str, Any]) -> Iterator[str]:
    """What the standard `restricted` refuses in a pod's spec, in the order of the standard.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    own, kinds = spec.get("securityContext") or {}, ("initContainers", "containers", "ephemeralContainers")
    contexts = [each.get("securityContext") or {} for kind in kinds for each in spec.get(kind) or []]
    yield from (key for key in HOST if spec.get(key))
    if any(each.get("privileged") for each in contexts):
        yield "privileged"
    if any("hostPath" in volume for volume in spec.get("volumes") or []):
        yield "hostPath"
    if not all(each.get("allowPrivilegeEscalation") is False for each in contexts):
        yield "allowPrivilegeEscalation"
    if not all("ALL" in ((each.get("capabilities") or {}).get("drop") or []) for each in contexts):
        yield "capabilities"
    if not all(each.get("runAsNonRoot", own.get("runAsNonRoot")) for each in contexts):
        yield "runAsNonRoot"
    if not all((each.get("seccompProfile") or own.get("seccompProfile")) for each in contexts):
        yield "seccompProfile"
