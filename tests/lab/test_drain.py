"""The drain of an upgrade, against a real Kubernetes API: budgets are respected, and what holds a node is named."""

from pathlib import Path

import pytest

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.clusters.k3s.kubectl import Kubectl
from platformlib.errors import ClusterError
from platformlib.machines import Machine
from platformlib.versions import image

LABELS = {"app.kubernetes.io/name": "drained"}
SPACE = "drain-test"


def objects(node: str) -> list[dict[str, object]]:
    """One pod that a budget of one holds on a node, and that can go nowhere else."""
    container = {
        "name": "sleep",
        "image": image("pause"),
        "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "16Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    template = {
        "metadata": {"labels": LABELS},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }
    meta = {"name": "drained", "namespace": SPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta,
            "spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}},
        },
    ]


def drain_a_worker(target: "pl.Target", folder: Path) -> None:
    (program := folder / "kubectl").symlink_to(Bundle().binary("kubernetes"))
    kubectl = Kubectl(Machine("here", "127.0.0.1"), (str(program), "--kubeconfig", str(target.kubeconfig)))
    worker = next(node.name for node in reversed(target.settings.cluster.nodes) if node.role == "worker")
    wanted = objects(worker)
    target.kube.apply(wanted, layer=SPACE)
    try:
        target.kube.wait(wanted, timeout=90)
        assert kubectl.healthy()
        with pytest.raises(ClusterError, match="disruption budget"):
            kubectl.drain(worker, timeout=8)
        assert kubectl.members()[worker].cordoned
        target.kube.delete(wanted[2])
        kubectl.drain(worker, timeout=90)
        pods = target.kube.list("v1", "Pod", SPACE)
        assert [pod for pod in pods if pod["spec"].get("nodeName") == worker] == []
        assert kubectl.members()[worker].ready
    finally:
        kubectl.uncordon(worker)
        target.kube.uninstall(SPACE)
    assert not kubectl.members()[worker].cordoned


def test_a_drain_respects_budgets_and_names_what_holds(target: "pl.Target", tmp_path: Path) -> None:
    drain_a_worker(target, tmp_path)
