"""Who may do what: every cell of the matrix asked of the API server, and every grant that is worth a look."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platformlib.errors import KubeError
from platformlib.kube.batch import combine_errors, each
from platformlib.kube.objects import MANAGED_BY, MANAGER, Reference, reference
from platformlib.security import rbac
from platformlib.security.connectivity import matches
from platformlib.security.credentials import kubeconfig
from platformlib.security.declared import Object, applications, data, namespaces
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

REVIEW = Reference("authorization.k8s.io/v1", "SubjectAccessReview", "", "")
MERGE = "application/strategic-merge-patch+json"
BINDINGS = ("ClusterRoleBinding", "RoleBinding")
MATRIX = ("persona", "place", "resource", "verb", "expected", "found", "ok")
GRANTS = ("subject", "kind", "role", "namespace", "verbs", "resources", "risk", "declared")
REQUESTS = ("layer", "rule", "accepted", "refused", "words", "ok")
DANGEROUS_VERBS = frozenset({"escalate", "bind", "impersonate"})
RUNS_PODS = frozenset({"create", "update", "patch"})
DANGEROUS = {
    "secrets": frozenset({"get", "list", "watch"}), "pods/exec": frozenset({"create"}),
    "pods/ephemeralcontainers": frozenset({"update", "patch"}), "nodes/proxy": frozenset({"get", "create"}),
    "serviceaccounts/token": frozenset({"create"}),
    # Whoever makes pods runs any image, with every service account of the namespace.
    **dict.fromkeys(("pods", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"), RUNS_PODS),
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
    """Every persona by place by resource by verb, with what is expected."""
    declared = data("expectations")
    places = {"platform": [own_namespace(settings)], "applications": applications(settings)[:1], "cluster": [""]}
    for persona in rbac.personas(settings):
        for place, found in places.items():
            allowed = _allowed(declared["expected"][persona].get(place, {}))
            kind = "cluster" if place == "cluster" else "namespaced"
            for namespace in found:
                for resource in declared["resources"][kind]:
                    for verb in declared["verbs"]:
                        yield Cell(persona, place, namespace, resource, verb, (resource, verb) in allowed)


def own_namespace(settings: Settings) -> str:
    """A namespace of the platform's own, for all of them: personas are bound in all alike."""
    return next(each.name for each in namespaces(settings) if not each.application and not each.exists)


def _allowed(given: dict[str, list[str]]) -> set[tuple[str, str]]:
    return {(name, verb) for verbs, resources in given.items() for name in resources for verb in verbs.split()}


def matrix(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """Ask the API server about every cell, by a SubjectAccessReview each.

    Returns:
        Columns: persona, place, resource, verb, expected, found, ok.

    Raises:
        KubeError: a review was not answered.
    """
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
    """The matrix to read: a row per persona and resource, a column per place, initials of the verbs in the cells."""
    allowed = matrix[matrix["found"]]
    short = allowed.assign(verb=allowed["verb"].str[0], resource=allowed["resource"].str.partition(".")[0])
    wide: pd.DataFrame = short.pivot_table(
        index=["persona", "resource"], columns="place", values="verb", aggfunc="".join, fill_value="", sort=False
    )
    return wide


def grants(kube: "Kube") -> "pd.DataFrame":
    """Who can do what, a row per rule of each binding.

    Returns:
        Columns: subject, kind, role, namespace, verbs, resources, risk (wildcards, and what leads to more rights),
        declared (whose the binding is: platform, kubernetes, or empty for one that somebody added).
    """
    import pandas as pd

    roles = {_key(role): role for kind in ("ClusterRole", "Role") for role in kube.list(f"{rbac.API}/v1", kind)}
    rows = [row for binding in _bindings(kube) for row in _rows(binding, roles)]
    return pd.DataFrame(rows, columns=list(GRANTS))


def _bindings(kube: "Kube") -> list[Object]:
    return [binding for kind in BINDINGS for binding in kube.list(f"{rbac.API}/v1", kind)]


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
    """What makes a rule worth a look; empty for most."""
    verbs, resources = set(rule["verbs"]), set(rule.get("resources") or [])
    found = [f"every {what}" for what, given in (("verb", verbs), ("resource", resources)) if "*" in given]
    found += sorted(verbs & DANGEROUS_VERBS)
    found += [name for name, dangerous in DANGEROUS.items() if name in resources and verbs & (dangerous | {"*"})]
    return ", ".join(found)


def owner(obj: Object) -> str:
    """Who made a role or binding: platform, kubernetes, or empty."""
    name, labels = obj["metadata"]["name"], obj["metadata"].get("labels") or {}
    if labels.get("app.kubernetes.io/managed-by") == "platformlib":
        return "platform"
    if labels.get("kubernetes.io/bootstrapping") or name.startswith(
        ("system:", "kubeadm:", "k3s-", "helm-kube-system")
    ):
        return "kubernetes"
    known = {"cluster-admin", "kube-proxy", "traefik-kube-system"}  # the last one: of the chart that k3s packages
    return "kubernetes" if name in known or labels.get("objectset.rio.cattle.io/hash") else ""


def added(kube: "Kube") -> list[Object]:
    """Bindings that neither the platform nor Kubernetes made."""
    return [binding for binding in _bindings(kube) if not owner(binding)]


def unused(kube: "Kube") -> list[str]:
    """Roles without a binding that are part of no other role. Kubernetes' own are left out."""
    bound = {(binding["roleRef"]["kind"], binding["roleRef"]["name"]) for binding in _bindings(kube)}
    roles = [role for kind in ("ClusterRole", "Role") for role in kube.list(f"{rbac.API}/v1", kind)]
    parts = [s for role in roles for s in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []]
    idle = [
        role for role in roles if (role["kind"], role["metadata"]["name"]) not in bound and owner(role) != "kubernetes"
    ]
    return sorted(role["metadata"]["name"] for role in idle if not any(matches(s, _labels(role)) for s in parts))


def _labels(role: Object) -> dict[str, str]:
    return role["metadata"].get("labels") or {}


def requests(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """Send one request that is accepted and one that is refused, with each persona's own credentials.

    Requests that would change something are server-side dry runs.

    Returns:
        Columns: layer, rule, accepted, refused, words (of the refusal, as a pattern), ok.
    """
    import pandas as pd

    from platformlib.kube import Kube

    places = {"PLATFORM": own_namespace(settings), "APPLICATION": next(iter(applications(settings)), None)}
    rows = []
    for persona in rbac.personas(settings):
        own, given = Kube.connect(kubeconfig(kube, settings, persona)), data("expectations")["requests"][persona]
        asked = {kind: [places.get(part, part) for part in request] for kind, request in given.items()}
        if all(None not in request for request in asked.values()):
            said = {kind: _sent(own, request) for kind, request in asked.items()}
            ok = not said["accept"] and "forbidden" in said["refuse"]
            rows.append(["access", f"persona {persona}", said["accept"] or "answered", said["refuse"], "forbidden", ok])
        if persona == "operator":
            rows += operator_limits(kube, own)
    return pd.DataFrame(rows, columns=list(REQUESTS))


def _sent(own: "Kube", request: list[str]) -> str:
    """The words of a refusal; empty if the request was answered."""
    verb, resource, namespace = request
    named, _, group = resource.partition(".")
    root = f"/apis/{group}/v1" if group else "/api/v1"
    path = root + (f"/namespaces/{namespace}" if namespace else "") + f"/{named}"
    if verb == "list":
        return _words(lambda: own.api.session.request("GET", path))
    return _words(lambda: own.api.session.request("DELETE", f"{path}/no-such-object", params={"dryRun": "All"}))


def _words(call: Callable[[], Any]) -> str:
    try:
        call()
    except KubeError as error:
        return str(error).splitlines()[0]
    return ""


def operator_limits(kube: "Kube", own: "Kube") -> list[list[Any]]:
    """What a patch by the role operator may change: two rows of the table of `requests`.

    Args:
        kube: the administrator's connection; finds a workload and a node to ask about.
        own: the operator's connection.
    """
    ours = f"{MANAGED_BY}={MANAGER}"
    workload, node = kube.list("apps/v1", "Deployment", label_selector=ours)[0], kube.list("v1", "Node")[0]
    restart = {"spec": {"template": {"metadata": {"annotations": {rbac.RESTARTED: "2000-01-01T00:00:00Z"}}}}}
    change = {"spec": {"template": {"spec": {"serviceAccountName": "default"}}}}
    cordon, label = {"spec": {"unschedulable": True}}, {"metadata": {"labels": {"platformlib.io/example": "x"}}}
    asked = (("operator-restarts-only", workload, restart, change), ("operator-cordons-only", node, cordon, label))
    return [_limit(own, rule, obj, accept, refuse) for rule, obj, accept, refuse in asked]


def _limit(own: "Kube", rule: str, obj: Object, accept: Object, refuse: Object) -> list[Any]:
    said = [_patched(own, reference(obj), body) for body in (accept, refuse)]
    ok = not said[0] and rule in said[1]
    return ["access", rule, said[0] or "let through", said[1] or "NOT REFUSED", rule, ok]


def _patched(own: "Kube", ref: Reference, body: Object) -> str:
    return _words(lambda: own.api.call("PATCH", ref, body=body, content=MERGE, dryRun="All"))
