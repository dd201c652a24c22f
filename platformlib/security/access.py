"""Who may do what: every cell of the matrix asked of the API server, and every grant that is worth a look."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformlib.errors import KubeError
from platformlib.kube.batch import combine_errors, each
from platformlib.kube.objects import Reference
from platformlib.security import rbac
from platformlib.security.credentials import kubeconfig
from platformlib.security.declared import Object, applications, data
from platformlib.security.semantics import matches
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

REVIEW = Reference("authorization.k8s.io/v1", "SubjectAccessReview", "", "")
PLATFORM = "observability"
MATRIX = ("persona", "place", "resource", "verb", "expected", "found", "ok")
GRANTS = ("subject", "kind", "role", "namespace", "verbs", "resources", "risk", "declared")
DANGEROUS_VERBS = frozenset({"escalate", "bind", "impersonate"})
DANGEROUS = {
    "secrets": frozenset({"get", "list", "watch"}), "pods/exec": frozenset({"create"}),
    "nodes/proxy": frozenset({"get", "create"}), "serviceaccounts/token": frozenset({"create"}),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One question of the matrix; without a namespace it is about the cluster."""

    persona: str
    place: str
    namespace: str
    resource: str
    verb: str
    expected: bool


def cells(settings: Settings) -> Iterator[Cell]:
    """Persona by verb by resource by place, each with what is expected of it."""
    declared = data("expectations")
    places = {"platform": [PLATFORM], "applications": applications(settings)[:1], "cluster": [""]}
    for persona in rbac.personas(settings):
        for place, namespaces in places.items():
            allowed = declared["expected"][persona].get(place, {})
            kind = "cluster" if place == "cluster" else "namespaced"
            for namespace in namespaces:
                for resource in declared["resources"][kind]:
                    for verb in declared["verbs"]:
                        yield Cell(persona, place, namespace, resource, verb, verb in allowed.get(resource, []))


def matrix(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """persona, place, resource, verb, expected, found, ok: a SubjectAccessReview for every cell."""
    import pandas as pd

    asked = list(cells(settings))
    answers, failed = each(lambda cell: _review(kube, settings, cell), asked)
    if failed:
        raise combine_errors(failed, heading="the API server did not answer every review")
    rows = [
        [cell.persona, cell.place, cell.resource, cell.verb, cell.expected, found, cell.expected == found]
        for cell, found in zip(asked, answers, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(MATRIX))


def _review(kube: "Kube", settings: Settings, cell: Cell) -> bool:
    named, _, group = cell.resource.partition(".")
    resource, _, part = named.partition("/")
    attributes = {
        "verb": cell.verb, "resource": resource, "subresource": part, "group": group, "namespace": cell.namespace,
    }  # fmt: skip
    spec = {**rbac.user(rbac.personas(settings)[cell.persona]), "resourceAttributes": attributes}
    body = {"apiVersion": REVIEW.api_version, "kind": REVIEW.kind, "spec": spec}
    return bool(kube.api.call("POST", REVIEW, body=body).json()["status"]["allowed"])


def grid(matrix: "pd.DataFrame") -> "pd.DataFrame":
    """The matrix as it reads best: a row each persona and place, a column each resource, the verbs in the cells."""
    allowed = matrix[matrix["found"]]
    initials = allowed.assign(verb=allowed["verb"].str[0])
    wide: pd.DataFrame = initials.pivot_table(
        index=["persona", "place"], columns="resource", values="verb", aggfunc="".join, fill_value=""
    )
    return wide.rename(columns=lambda name: str(name).partition(".")[0])


def grants(kube: "Kube") -> "pd.DataFrame":
    """subject, kind, role, namespace, verbs, resources, risk, declared: who can do what, a row each rule of a binding.

    `risk` names wildcards and what leads to more rights; `declared` says whose the binding is: platform, kubernetes,
    kyverno, or nothing for one that somebody added.
    """
    import pandas as pd

    roles = {_key(each): each for kind in ("ClusterRole", "Role") for each in kube.list(f"{rbac.API}/v1", kind)}
    bindings = [b for kind in ("ClusterRoleBinding", "RoleBinding") for b in kube.list(f"{rbac.API}/v1", kind)]
    rows = [row for binding in bindings for row in _rows(binding, roles)]
    return pd.DataFrame(rows, columns=list(GRANTS))


def _key(role: Object) -> tuple[str, str, str]:
    return role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]


def _rows(binding: Object, roles: dict[tuple[str, str, str], Object]) -> Iterator[list[str]]:
    ref, namespace = binding["roleRef"], binding["metadata"].get("namespace", "")
    role = roles.get((ref["kind"], namespace if ref["kind"] == "Role" else "", ref["name"]))
    for subject in binding.get("subjects") or []:
        who = f"{subject['namespace']}/{subject['name']}" if subject.get("namespace") else subject["name"]
        for rule in (role or {}).get("rules") or []:
            if "resources" in rule:
                verbs, resources = sorted(rule["verbs"]), sorted(rule["resources"])
                found = [who, subject["kind"], ref["name"], namespace, ", ".join(verbs), ", ".join(resources)]
                yield [*found, risk(rule), owner(binding)]


def risk(rule: Object) -> str:
    """What makes a rule worth a look; nothing for most."""
    verbs, resources = set(rule["verbs"]), set(rule.get("resources") or [])
    found = [f"every {what}" for what, given in (("verb", verbs), ("resource", resources)) if "*" in given]
    found += sorted(verbs & DANGEROUS_VERBS)
    found += [name for name, dangerous in DANGEROUS.items() if name in resources and verbs & (dangerous | {"*"})]
    return ", ".join(found)


def owner(obj: Object) -> str:
    """Who made a role or binding: platform, kyverno, kubernetes, or nothing."""
    name, labels = obj["metadata"]["name"], obj["metadata"].get("labels") or {}
    if labels.get("app.kubernetes.io/managed-by") == "platformlib":
        return "platform"
    if labels.get("kubernetes.io/bootstrapping") or name.startswith(
        ("system:", "kubeadm:", "k3s-", "helm-kube-system")
    ):
        return "kubernetes"
    return "kubernetes" if name in {"cluster-admin", "kube-proxy"} or labels.get("objectset.rio.cattle.io/hash") else ""


def added(kube: "Kube") -> list[Object]:
    """Bindings that neither the platform nor Kubernetes made."""
    kinds = ("ClusterRoleBinding", "RoleBinding")
    return [each for kind in kinds for each in kube.list(f"{rbac.API}/v1", kind) if not owner(each)]


def unused(kube: "Kube") -> list[str]:
    """Roles that nothing is bound to and no other role is made of; Kubernetes' own are left out."""
    bindings = [each for kind in ("ClusterRoleBinding", "RoleBinding") for each in kube.list(f"{rbac.API}/v1", kind)]
    bound = {(each["roleRef"]["kind"], each["roleRef"]["name"]) for each in bindings}
    roles = [role for kind in ("ClusterRole", "Role") for role in kube.list(f"{rbac.API}/v1", kind)]
    parts = [s for role in roles for s in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []]
    idle = [
        role for role in roles if (role["kind"], role["metadata"]["name"]) not in bound and owner(role) != "kubernetes"
    ]
    return sorted(role["metadata"]["name"] for role in idle if not any(matches(s, _labels(role)) for s in parts))


def _labels(role: Object) -> dict[str, str]:
    return role["metadata"].get("labels") or {}


def requests(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """layer, rule, accepted, refused, words, ok: a real request of each kind with each persona's own credentials."""
    import pandas as pd

    from platformlib.kube import Kube

    place = next(iter(applications(settings)), "")
    rows = []
    for persona in rbac.personas(settings):
        own, given = Kube.connect(kubeconfig(kube, settings, persona)), data("expectations")["requests"][persona]
        if place or "APPLICATION" not in str(given):
            said = {kind: _sent(own, [part.replace("APPLICATION", place) for part in given[kind]]) for kind in given}
            ok = not said["accept"] and "forbidden" in said["refuse"]
            rows.append(["access", f"persona {persona}", said["accept"] or "answered", said["refuse"], "forbidden", ok])
    return pd.DataFrame(rows, columns=["layer", "rule", "accepted", "refused", "words", "ok"])


def _sent(own: "Kube", request: list[str]) -> str:
    """The words of a refusal; nothing when it was answered. What would be deleted does not exist."""
    verb, resource, namespace = request
    named, _, group = resource.partition(".")
    root = f"/apis/{group}/v1" if group else "/api/v1"
    path = root + (f"/namespaces/{namespace}" if namespace else "") + f"/{named}"
    try:
        own.api.session.request(
            "GET" if verb == "list" else "DELETE", path + ("" if verb == "list" else "/no-such-object")
        )
    except KubeError as error:
        return str(error).splitlines()[0]
    return ""
