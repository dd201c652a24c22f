"""Namespaces have the declared level, and are closed by default."""

from platformlib.checks import Check, Found
from platformlib.components.proving import Context, same
from platformlib.security.declared import ENFORCE, namespaces


def checks(context: Context) -> list[Check]:
    """Pod Security levels and default denies."""
    closed = [each.name for each in namespaces(context.settings) if each.default_deny]
    return [
        Check(
            "namespaces",
            "each enforces the Pod Security Standard that was declared for it",
            "apply the layer security again, with take_ownership=True",
            lambda: _labelled(context),
        ),
        Check(
            "default deny",
            f"in {', '.join(closed)}",
            "apply the layer security again",
            lambda: same(_closed(context, closed), closed),
        ),
    ]


def _labelled(context: Context) -> Found:
    live = {
        each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in context.kube.list("v1", "Namespace")
    }
    wanted = {each.name: each.pods for each in namespaces(context.settings) if not each.exists}
    wrong = [f"{name}: {live.get(name, {}).get(ENFORCE)} instead of {level}" for name, level in wanted.items()
             if live.get(name, {}).get(ENFORCE) != level]  # fmt: skip
    return not wrong, "; ".join(wrong) or ", ".join(f"{name} {level}" for name, level in wanted.items())


def _closed(context: Context, wanted: list[str]) -> list[str]:
    found = context.kube.list("networking.k8s.io/v1", "NetworkPolicy")
    named = {each["metadata"]["namespace"] for each in found if each["metadata"]["name"] == "default-deny"}
    return sorted(named & set(wanted))
