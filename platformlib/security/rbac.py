"""Personas: a role each, bound to a group or a service account."""

from typing import TYPE_CHECKING, Any

from platformlib.security.declared import Object, applications, data, meta
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

API = "rbac.authorization.k8s.io"
HOME = "access"
PREFIX = "platform-"
RESTARTED = "kubectl.kubernetes.io/restartedAt"  # what `kubectl rollout restart` sets


def personas(settings: Settings) -> dict[str, dict[str, Any]]:
    """The personas that the settings name, as declared."""
    return {name: row for name, row in data("personas").items() if name in settings.security.personas}


def objects(settings: Settings) -> list[Object]:
    """Roles, service accounts and bindings."""
    return [made for name, row in personas(settings).items() for made in _persona(name, row, settings)]


def _persona(name: str, row: dict[str, Any], settings: Settings) -> list[Object]:
    role = {"apiVersion": f"{API}/v1", "kind": "ClusterRole", "metadata": meta(PREFIX + name), "rules": row["rules"]}
    account = {
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(row.get("serviceAccount", ""), HOME),
        "automountServiceAccountToken": False,
    }  # fmt: skip
    accounts = [account] if "serviceAccount" in row else []
    places = [""] if row["bound"] == "cluster" else applications(settings)
    return [role, *accounts, *(_binding(name, subject(row), place) for place in places)]


def subject(row: dict[str, Any]) -> Object:
    """Who a persona is, as a binding names it."""
    if "group" in row:
        return {"kind": "Group", "name": row["group"], "apiGroup": API}
    return {"kind": "ServiceAccount", "name": row["serviceAccount"], "namespace": HOME}


def _binding(name: str, who: Object, namespace: str) -> Object:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    role = {"apiGroup": API, "kind": "ClusterRole", "name": PREFIX + name}
    return {
        "apiVersion": f"{API}/v1",
        "kind": kind,
        "metadata": meta(PREFIX + name, namespace),
        "roleRef": role,
        "subjects": [who],
    }


def user(row: dict[str, Any]) -> dict[str, Any]:
    """The user and groups that the API server sees of a persona."""
    if "group" in row:
        return {"user": f"someone-of-{row['group']}", "groups": [row["group"], "system:authenticated"]}
    name = f"system:serviceaccount:{HOME}:{row['serviceAccount']}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{HOME}", "system:authenticated"]
    return {"user": name, "groups": groups}


def table(settings: Settings) -> "pd.DataFrame":
    """Columns: persona, who (group or service account), bound (cluster or applications), purpose."""
    import pandas as pd

    rows = [[name, subject(row)["name"], row["bound"], row["purpose"]] for name, row in personas(settings).items()]
    return pd.DataFrame(rows, columns=["persona", "who", "bound", "purpose"])
