"""Nodes are there, and the system's own pods run."""

from platformlib.checks import Check, Found
from platformlib.components.proving import Context, Object, pods_run, same


def checks(context: Context) -> list[Check]:
    """Nodes, and the pods of kube-system."""
    return [
        Check(
            "nodes",
            f"Ready: {', '.join(context.nodes)}",
            "kubectl describe node NAME; on the machine: journalctl -u kubelet -u containerd",
            lambda: _ready(context),
            patience=120,
        ),
        pods_run(context, "kube-system"),
    ]


def _ready(context: Context) -> Found:
    nodes = context.kube.list("v1", "Node")
    return same([node["metadata"]["name"] for node in nodes if _is_ready(node)], context.nodes)


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
