"""Kubernetes by kubeadm, moved up by one patch and back on three machines, while a workload answers.

The older version is an optional artifact of the bundle: platformlib bundle build --with kubernetes-previous
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.clusters.kubeadm import Kubeadm
from platformlib.errors import PlatformError, PreflightFailed
from platformlib.kube import Kube
from platformlib.lab import Lab, cgroups, remove
from platformlib.layers import Stack
from platformlib.settings import Settings
from platformlib.versions import image, versions

pytestmark = pytest.mark.full
NAME = "upgradelab"
SPACE = "moving"
OLD, NEW = (versions()["modules"][name]["version"] for name in ("kubernetes-previous", "kubernetes"))
NODES = [{"name": f"node{n}", "address": f"192.168.74.1{n}"} for n in (1, 2, 3)]
NODES[0]["role"] = "control-plane"


def settings(version: str) -> Settings:
    cluster = {"distribution": "kubeadm", "version": version, "nodes": NODES, "network": {"nodes": "192.168.74.0/24"}}
    return pl.load({
        "name": NAME, "cluster": cluster, "layers": ["cluster"], "lab": {"machine": {"memory": "2Gi", "cpus": 2.0}},
        "registry": {"mirror": "http://192.168.74.1:5000"},
    })  # fmt: skip


def program(version: str) -> Path:
    try:
        return Bundle().binary("kubernetes" if version == NEW else "kubernetes-previous")
    except PlatformError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    program(OLD)
    remove(NAME)
    made = Lab(settings(OLD))
    made.up(print)
    yield made
    made.down()


def driver(lab: Lab, bundled: str, version: str = OLD) -> Kubeadm:
    """A driver with the programs of one version, for parameters that name another or the same."""
    cluster = lab.settings.cluster.model_copy(update={"version": version})
    return Kubeadm(lab.settings.model_copy(update={"cluster": cluster}), program(bundled))


def workload() -> list[dict[str, Any]]:
    """Two replicas apart from each other, of which one must answer at any time."""
    labels = {"app": "answers"}
    container = {
        "name": "httpd", "image": image("busybox"), "command": ["httpd", "-f", "-p", "8080", "-h", "/etc"],
        "ports": [{"containerPort": 8080}], "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},  # until its address is gone from every machine
    }  # fmt: skip
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
              "labelSelector": {"matchLabels": labels}}  # fmt: skip
    pod = {"containers": [container], "topologySpreadConstraints": [spread], "terminationGracePeriodSeconds": 10}
    meta = {"name": "answers", "namespace": SPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {
            "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": {
            "minAvailable": 1, "selector": {"matchLabels": labels}}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod}}},
    ]  # fmt: skip


# Ten requests a second from the control plane's machine; a line for each that was lost.
ASK = """
nohup sh -c 'while :; do echo asked; curl -s -o /dev/null --max-time 2 http://$0/hostname || echo "lost $(date +%T)"
  sleep 0.1; done' "$1" > /run/asked 2>/dev/null < /dev/null & echo $! > /run/asking
"""


def counted(cluster: Kubeadm) -> tuple[int, list[str]]:
    """How many requests were sent so far, and those that were lost."""
    lines = cluster.control_plane.shell("cat /run/asked").splitlines()
    return lines.count("asked"), [line for line in lines if line != "asked"]


def nodes(cluster: Kubeadm) -> dict[str, tuple[str, bool, bool]]:
    return {name: (it.version, it.ready, it.cordoned) for name, it in cluster.kubectl.members().items()}


def all_at(version: str) -> dict[str, tuple[str, bool, bool]]:
    return {node["name"]: (version, True, False) for node in NODES}


UPGRADE = """
import sys
from tests.lab.test_upgrade import Lab, driver, settings, NEW, OLD
driver(Lab(settings(OLD)), NEW).upgrade(NEW, print)
"""


def killed(lab: Lab, seconds: float) -> None:
    """Begin the upgrade; after so many seconds end it, and what runs for it on the machines."""
    with subprocess.Popen([sys.executable, "-c", UPGRADE], cwd=Path(__file__).parents[2]) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    for member in (it for machine in lab.plan.machines for it in cgroups.members(machine.group)):
        try:
            login = psutil.Process(member)
            if " ".join(login.cmdline()).startswith("sshd: root@"):
                for child in [*login.children(recursive=True), login]:
                    child.kill()
        except psutil.NoSuchProcess:
            continue


@pytest.mark.timeout(3000)
@pytest.mark.proves(
    "kubeadm clusters move up by one patch and back, killed anywhere, while a workload answers", room="clusters"
)
def test_up_by_one_patch_and_back_while_a_workload_answers(lab: Lab, seed: int) -> None:
    cluster = driver(lab, OLD)
    cluster.install(print)
    cluster.join(print)
    kube = Kube.connect(cluster.kubeconfig())
    kube.claim(NAME, "kubeadm")
    network = Stack(cluster.settings, kube)["cluster"]
    network.apply()
    network.wait(180)
    kube.apply(workload(), layer="test")
    kube.wait(workload(), timeout=120)
    service = kube.get("v1", "Service", "answers", SPACE)
    assert service is not None
    cluster.control_plane.shell(ASK, service["spec"]["clusterIP"])
    assert nodes(cluster) == all_at(OLD)

    with pytest.raises(PreflightFailed, match=rf"version is {OLD}, expected {NEW}; upgrade\('{NEW}'\)"):
        driver(lab, NEW, NEW).install()
    assert nodes(cluster) == all_at(OLD)

    moment = random.Random(seed).uniform(10, 120)
    print(f"killed after {moment:.0f} s, seed {seed}")
    killed(lab, moment)
    newer = driver(lab, NEW)
    newer.upgrade(NEW, print)
    assert nodes(newer) == all_at(NEW)
    assert newer.kubectl.version() == NEW
    assert list(newer.snapshots()["version"])[-1] == OLD
    again = newer.upgrade(NEW)
    assert again.query("changed").empty, again.to_string()
    asked, lost = counted(newer)
    print(f"upgrade: {len(lost)} of {asked} requests lost {lost}")
    assert asked > 300
    assert len(lost) <= asked // 100

    # A control plane that an upgrade has broken: its API server cannot start.
    spoil = f"s/kube-apiserver:{NEW}/kube-apiserver:v1.35.99/"
    newer.control_plane.shell('sed -i "$1" /etc/kubernetes/manifests/kube-apiserver.yaml', spoil)
    deadline = time.monotonic() + 120
    while newer.kubectl.healthy():
        assert time.monotonic() < deadline
        time.sleep(1)
    newer.rollback(print)
    assert nodes(newer) == all_at(OLD)
    assert newer.kubectl.version() == OLD
    assert kube.get("apps/v1", "Deployment", "answers", SPACE) is not None, "a rollback keeps the data"
    cluster.install(print)
    asked, lost = counted(newer)
    print(f"upgrade and rollback: {len(lost)} of {asked} requests lost {lost}")
    assert len(lost) <= asked // 100
