"""The resource metrics API answers for every node, whoever serves it."""

from platformlib.checks import Check, Found
from platformlib.components.proving import Context, same


def checks(context: Context) -> list[Check]:
    """Resource metrics."""
    return [
        Check(
            "resource metrics",
            f"metrics.k8s.io answers for {', '.join(context.nodes)}",
            "kubectl -n kube-system logs deploy/metrics-server; kubectl get apiservice v1beta1.metrics.k8s.io",
            lambda: _resource_metrics(context),
            patience=120,
        ),
    ]


def _resource_metrics(context: Context) -> Found:
    found = context.kube.list("metrics.k8s.io/v1beta1", "NodeMetrics")
    return same([each["metadata"]["name"] for each in found if each["usage"]["memory"] != "0"], context.nodes)
