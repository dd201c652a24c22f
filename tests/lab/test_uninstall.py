"""kubeadm on two machines of a lab of its own: installed, taken off, and installed again on one machine alone."""

from collections.abc import Iterator
from typing import Any

import pytest

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.clusters.kubeadm import Kubeadm
from platformlib.clusters.kubectl import CONTROL_PLANE
from platformlib.errors import CommandFailed
from platformlib.kube import Kube, identity
from platformlib.lab import Lab, remove
from platformlib.layers import Stack
from platformlib.machines import Machine
from platformlib.settings import Settings
from platformlib.versions import image

NAME = "uninstalllab"
NODES = [
    {"name": "first", "address": "192.168.73.11", "role": "control-plane"},
    {
        "name": "second",
        "address": "192.168.73.12",
        "labels": {"disk": "ssd"},
        "taints": ["dedicated=storage:NoSchedule"],
    },
]
# What a user may have on a machine; it mentions Kubernetes, and is not its.
THEIRS = r"""set -e
iptables -A INPUT -p tcp --dport 22 -m comment --comment "as -j KUBE-FORWARD does" -j ACCEPT
mkdir -p /var/lib/cni/networks/podman /etc/kubernetes; echo 1 > /var/lib/cni/networks/podman/10.88.0.2
printf '#!/bin/sh\n' > /usr/local/bin/kubectl; chmod 755 /usr/local/bin/kubectl
echo "mine: true" > /etc/kubernetes/mine.yaml; echo "# mine" > /etc/containerd/config.toml
"""
# The machine as far as it must be the same again: files, rules, links, mounts, units, programs that run.
STATE = r"""
find /etc /usr/local /opt /var/lib/cni /var/lib/kubelet /var/lib/etcd -type f -o -type l 2>/dev/null |
  grep -vE '/etc/(mtab|resolv.conf|machine-id|systemd/system/.*wants)' | sort | xargs -d '\n' sha256sum 2>/dev/null
iptables-save | grep -E '^-A|^:.* - '; ip6tables-save | grep -E '^-A|^:.* - '; ipset list -n
ip -o link show | cut -d: -f2 | sort; ip rule show; ip route show
awk '{print $5}' /proc/self/mountinfo | grep -E '^/(var/lib/(kubelet|etcd)|run/(containerd|netns))' | sort
systemctl is-enabled kubelet 2>/dev/null; cat /proc/sys/net/ipv4/ip_forward
pgrep -x 'kubelet|etcd|kube-apiserver|kube-router|pause|coredns|containerd-shim'
true
"""


def settings(count: int) -> Settings:
    cluster = {"distribution": "kubeadm", "nodes": NODES[:count], "network": {"nodes": "192.168.73.0/24"}}
    machine = {"memory": "2Gi", "cpus": 2.0}
    return pl.load({
        "name": NAME, "cluster": cluster, "layers": ["cluster"], "lab": {"machine": machine},
        "registry": {"mirror": "http://192.168.73.1:5000"},
    })  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    remove(NAME)
    made = Lab(settings(2))
    made.up(print)
    yield made
    made.down()


def driver(lab: Lab, count: int = 2, *, dry_run: bool = False) -> Kubeadm:
    given = lab.settings
    chosen = given.model_copy(
        update={"cluster": given.cluster.model_copy(update={"nodes": given.cluster.nodes[:count]})}
    )
    return Kubeadm(chosen, Bundle().binary("kubernetes"), dry_run=dry_run)


def states(driver: Kubeadm) -> dict[str, list[str]]:
    return {name: machine.shell(STATE).splitlines() for name, machine in driver.machines.items()}


def network(driver: Kubeadm) -> Kube:
    """The pod network, without which no node is Ready."""
    kube = Kube.connect(driver.kubeconfig())
    kube.claim(NAME, "kubeadm")
    layer = Stack(driver.settings, kube)["cluster"]
    layer.apply()
    layer.wait(180)
    return kube


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "pause", "image": image("pause")}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.proves("an uninstall of kubeadm leaves a machine as it was, with all that is the user's", room="clusters")
def test_an_uninstall_leaves_the_machines_as_they_were(lab: Lab) -> None:
    cluster = driver(lab)
    for machine in cluster.machines.values():
        machine.shell(THEIRS)
    before = states(cluster)

    planned = driver(lab, dry_run=True).install()
    assert {"would run kubeadm init"} <= set(planned["action"])
    assert states(cluster) == before, "a dry run has changed a machine"

    cluster.install(print)
    cluster.join(print)
    kube = network(cluster)
    again = driver(lab)
    changed = [*again.install().query("changed").itertuples(), *again.join().query("changed").itertuples()]
    assert changed == []
    second = kube.get("v1", "Node", "second")
    assert second is not None
    assert second["metadata"]["labels"]["disk"] == "ssd"
    assert {"key": "dedicated", "value": "storage", "effect": "NoSchedule"} in second["spec"]["taints"]

    worker = cluster.machines["second"]
    with busy(worker) as path, pytest.raises(CommandFailed, match="is busy"):
        try:
            cluster.uninstall()
        finally:
            assert worker.read(f"{path}/file") == b"precious\n"
    would = driver(lab, dry_run=True).uninstall()
    assert would["action"].str.startswith("would remove").any()
    table = cluster.uninstall(print)
    assert list(table["left"]) == ["", ""], table.to_string()
    assert worker.shell("cat /srv/data/file; rm -r /srv/data") == "precious\n"
    after = states(cluster)
    differences = {name: sorted(set(before[name]) ^ set(after[name])) for name in before}
    assert differences == {"first": [], "second": []}


class busy:  # noqa: N801 - reads as a word where it is used
    """A volume below kubelet's folder, with a space in its path, that somebody works in."""

    PATH = "/var/lib/kubelet/pods/6f1f/volumes/kubernetes.io~nfs/my data"

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __enter__(self) -> str:
        script = 'mkdir -p "$1" /srv/data; echo precious > /srv/data/file; mount --bind /srv/data "$1"'
        self.machine.shell(script, self.PATH)
        self.machine.shell('cd "$1"; nohup sleep 600 >/dev/null 2>&1 & echo $! > /run/user.pid', self.PATH)
        return self.PATH

    def __exit__(self, *_: object) -> None:
        self.machine.shell("kill $(cat /run/user.pid); rm /run/user.pid; sleep 0.2")


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.proves("a platform of one machine carries its workloads on the control plane", room="clusters")
def test_a_platform_of_one_machine_carries_workloads(lab: Lab) -> None:
    identity.forget(NAME)  # the cluster of the test before is gone
    cluster = driver(lab, 1)
    cluster.install(print)
    cluster.join(print)
    kube = network(cluster)
    node = kube.get("v1", "Node", "first")
    assert node is not None
    assert CONTROL_PLANE not in {taint["key"] for taint in node["spec"].get("taints", [])}
    kube.apply([pod("anywhere")], layer="test")
    kube.wait([pod("anywhere")], timeout=60)
    cluster.uninstall(print)
