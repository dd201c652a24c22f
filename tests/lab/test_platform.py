"""The whole platform on three real machines, as a user sees it."""

import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.errors import WrongCluster
from platformlib.lab import Lab
from platformlib.settings import LAYERS
from tests.proof import TEST_LAB

NODES = {"k3s-master", "k3s-worker1", "k3s-worker2"}


def test_three_nodes_are_ready(target: "pl.Target") -> None:
    nodes = target.cluster.nodes()
    assert set(nodes["node"]) == NODES
    assert nodes["ready"].all()
    assert list(nodes.query("role == 'control-plane'")["node"]) == ["k3s-master"]


def test_every_pod_runs(target: "pl.Target") -> None:
    pods = target.kube.list("v1", "Pod")
    states = {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod["status"]["phase"] for pod in pods}
    assert {name: phase for name, phase in states.items() if phase not in ("Running", "Succeeded")} == {}


# The end-to-end test of scraping: what is not in this table is not watched, and what is in it must be up.
TARGETS = {
    "apiserver": 1,
    "coredns": 2,
    "kube-state-metrics": 1,
    "kubelet": 6,  # /metrics and /metrics/cadvisor of each node
    "loki": 1,
    "node-exporter": 3,
    "prometheus": 1,
    "promtail": 3,
}


def eventually(look: Callable[[], Any], expected: Any, seconds: float = 90) -> Any:
    """The last thing seen; waits until it is what is expected, as a scrape takes its interval."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != expected and time.monotonic() < deadline:
        time.sleep(3)
    return seen


def test_every_expected_scrape_target_is_up(target: "pl.Target") -> None:
    def up() -> dict[str, int]:
        found = target.prometheus.targets()
        healthy = found[found["health"] == "up"]["job"]
        return {job: int((healthy == job).sum()) for job in TARGETS}

    assert eventually(up, TARGETS) == TARGETS
    down = target.prometheus.targets().query("health != 'up'")
    assert down.empty, down.to_string()


@pytest.mark.parametrize(
    "metric",
    [
        'node_cpu_seconds_total{mode="idle",cpu="0"}',
        'container_memory_working_set_bytes{id="/"}',
        "kubelet_running_pods",
        "kube_node_info",
    ],
)
def test_metrics_of_all_nodes_are_there(target: "pl.Target", metric: str) -> None:
    def nodes() -> set[str]:
        frame = target.prometheus.query(f"count by (node) ({metric})")
        return set(frame["node"]) if "node" in frame else set()

    assert eventually(nodes, NODES) == NODES


def pod(name: str, line: str) -> dict[str, Any]:
    """A pod that writes one line and stays."""
    container = {
        "name": "writer",
        "image": pl.versions.image("busybox"),
        "command": ["sh", "-c", f"echo '{line}'; sleep 600"],
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"cpu": "50m", "memory": "16Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    meta = {"name": name, "namespace": "observability", "labels": {"app.kubernetes.io/name": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False},
    }


def test_a_line_that_a_pod_writes_comes_back_with_its_labels(target: "pl.Target") -> None:
    line = f"level=warn msg=marker id={time.time_ns()}"
    writer = pod("line-writer", line)
    target.kube.apply([writer], layer="test")
    try:

        def found() -> int:
            return len(target.loki.lines(f'{{namespace="observability", pod="line-writer"}} |= `{line}`', "10m"))

        assert eventually(found, 1) == 1
        row = target.loki.lines(f'{{pod="line-writer"}} |= `{line}`', "10m").iloc[0]
        labels = ("namespace", "pod", "container", "app", "stream", "detected_level")
        assert {label: row[label] for label in labels} == {
            "namespace": "observability",
            "pod": "line-writer",
            "container": "writer",
            "app": "line-writer",
            "stream": "stdout",
            "detected_level": "warn",
        }
        assert row["node"] in NODES
    finally:
        target.kube.uninstall("test")


def test_a_second_install_changes_nothing(target: "pl.Target") -> None:
    steps = pd.concat([target.cluster.install(), target.cluster.join()])
    assert steps.query("changed").empty, steps.to_string()
    for name in target.settings.layers:
        applied = target.layer(name).apply()
        assert applied.query("action != 'unchanged'").empty, applied.to_string()


def test_two_verifications_at_once_take_turns(target: "pl.Target") -> None:
    """Each has its own connection, as a job and a person have."""
    layers = [pl.Target(target.settings).layers["storage"] for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        tables = list(pool.map(lambda layer: layer.verify(), layers))
    assert [table["ok"].all() for table in tables] == [True, True]
    leases = {lease["metadata"]["name"] for lease in target.kube.list("coordination.k8s.io/v1", "Lease", "kube-system")}
    assert not [name for name in leases if name.startswith("platformlib-")]


def test_a_deleted_deployment_and_an_edited_field_are_found_and_put_back(target: "pl.Target") -> None:
    layer, kube = target.layer("observability"), target.kube
    assert layer.diff().empty, layer.diff().to_string()
    deployment = kube.get("apps/v1", "Deployment", "kube-state-metrics", "observability")
    assert deployment is not None
    kube.delete(deployment)
    edited = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "prometheus",
            "namespace": "observability",
            "labels": {"app.kubernetes.io/name": "edited"},
        },
    }
    edit_as_somebody_else(target, edited)
    found = layer.diff()
    assert set(zip(found["kind"], found["name"], found["live"], strict=True)) == {
        ("Deployment", "kube-state-metrics", "(absent)"),
        ("Service", "prometheus", "edited"),
    }
    layer.apply(take_ownership=True)
    layer.wait()
    assert layer.diff().empty


def edit_as_somebody_else(target: "pl.Target", patch: dict[str, Any]) -> None:
    """A merge patch by another field manager, as of somebody who edits by hand."""
    kubectl = ["kubectl", "--kubeconfig", str(target.kubeconfig), "--namespace", patch["metadata"]["namespace"]]
    argv = ["patch", "service", patch["metadata"]["name"], "--patch", json.dumps(patch), "--field-manager", "somebody"]
    subprocess.run([*kubectl, *argv], executable=Bundle().binary("kubernetes"), check=True, capture_output=True)


def test_another_name_is_not_installed_over_this_cluster(target: "pl.Target") -> None:
    raw = target.settings.model_dump(mode="json") | {"name": "other"}
    raw["cluster"]["kubeconfig"] = str(target.kubeconfig)
    with pytest.raises(WrongCluster, match=rf"carries the platform '{TEST_LAB}' .*, not 'other'"):
        pl.bind(raw)


def test_nothing_outside_was_needed(target: "pl.Target", lab: Lab) -> None:
    assert set(target.settings.layers) == set(LAYERS)
    assert lab.refused_lookups() == []
