"""k3s is one process with one registry of metrics: each series once, under the component that it belongs to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib.components.prometheus.objects import objects

PARAMETERS = Path(__file__).parents[2] / "parameters"


def jobs(file: str) -> dict[str, Any]:
    """The scrape configurations of a parameters file, by name."""
    files = next(each["data"] for each in objects(pl.load(PARAMETERS / file)) if "scrape" in each["metadata"]["name"])
    every = [yaml.safe_load(text) or {} for text in files.values()]
    return {job["job_name"]: job for each in every for job in each.get("scrape_configs", [])}


def job_of(metric: str, config: dict[str, Any]) -> list[str]:
    """Every job that the relabelling of a kubelet's target gives to a metric."""
    rules = config.get("metric_relabel_configs", [])
    named = [rule for rule in rules if rule.get("target_label") == "job"]
    return [rule["replacement"] for rule in named if re.fullmatch(rule["regex"], metric)]


def test_k3s_has_no_target_of_its_own_for_what_the_kubelets_port_answers() -> None:
    assert "apiserver" in jobs("lab.yaml")
    assert not {"apiserver", "kube-scheduler", "kube-controller-manager", "kube-etcd"} & jobs("homelab.yaml").keys()


@pytest.mark.parametrize(
    ("metric", "job"),
    [
        ("apiserver_request_total", ["apiserver"]),
        ("scheduler_pending_pods", ["kube-scheduler"]),
        ("node_collector_evictions_total", ["kube-controller-manager"]),
        ("kubeproxy_sync_proxy_rules_duration_seconds_count", ["kube-proxy"]),
        ("etcd_requests_total", ["kube-etcd"]),
        ("kubelet_running_pods", []),
        ("process_cpu_seconds_total", []),
    ],
)
def test_a_metric_of_k3s_belongs_to_one_component_at_most(metric: str, job: list[str]) -> None:
    assert job_of(metric, jobs("homelab.yaml")["kubelet"]) == job


def test_a_kubelet_of_kubeadm_keeps_its_own_job() -> None:
    assert job_of("apiserver_request_total", jobs("lab.yaml")["kubelet"]) == []
