"""What machines are told and which are refused; worked out from facts and settings alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib.clusters import driver, kubeconfig
from platformlib.clusters.kubeadm import config, upgrade
from platformlib.clusters.preflight import preflight
from platformlib.errors import ClusterError, PreflightFailed
from platformlib.machines.facts import Facts, GiB

LAB = pl.load(Path(__file__).parents[2] / "parameters" / "lab.yaml")
CONTROL, WORKER = LAB.cluster.nodes[:2]


def fit(name: str) -> Facts:
    """The facts of a machine without fault."""
    node = next(node for node in LAB.cluster.nodes if node.name == name)
    return Facts(
        node=name,
        os="Debian GNU/Linux 12",
        hostname=name,
        architecture="x86_64",
        kernel="6.1.0",
        cpus=4,
        memory=8 * GiB,
        memory_limit=8 * GiB,
        swap=0,
        disk_free=40 * GiB,
        cgroup=2,
        init="systemd",
        containerd="1.6.20",
        kubelet="",
        addresses=("127.0.0.1", str(node.address)),
        routes=("192.168.1.0/24",),
        listening=frozenset({22}),
        member=False,
        ca="",
        container="none",
        oom=True,
        skew=0.1,
    )


ALL = {node.name: fit(node.name) for node in LAB.cluster.nodes}


def test_fit_machines_pass_every_rule() -> None:
    table = preflight(LAB, ALL)
    assert set(table["node"]) == set(ALL)
    assert table["ok"].all()


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"hostname": "debian"}, "hostname is debian, expected k3s-worker1; hostnamectl"),
    "architecture": ({"architecture": "riscv64"}, "architecture is riscv64"),
    "init": ({"init": "runit"}, "init system is runit"),
    "memory": ({"memory_limit": GiB // 2}, "memory is 0.5 GiB"),
    "full disk": ({"disk_free": 0}, "disk is 0.0 GiB free in /var/lib, expected at least 4 GiB"),
    "swap": ({"swap": GiB}, "swap is 1024 MiB, expected off; swapoff"),
    "clock": ({"skew": -90.0}, "clock is -90.0 s"),
    "address": ({"addresses": ("127.0.0.1",)}, "address is 127.0.0.1, expected 192.168.1.202"),
    "route": ({"routes": ("10.42.7.0/24",)}, "routes is 10.42.7.0/24, expected no route into 10.42.0.0/16"),
    "port": ({"listening": frozenset({10250})}, "ports is 10250"),
    "no containerd": ({"containerd": ""}, "containerd is none, expected 1.6 or later; apt-get install"),
    "old containerd": ({"containerd": "1.4.13~ds1"}, "containerd is 1.4.13"),
    "leftovers": ({"member": True, "ca": "feed"}, "leftovers is another cluster's CA"),
}


@pytest.mark.parametrize(("changes", "said"), UNFIT.values(), ids=UNFIT.keys())
def test_an_unfit_machine_is_named_with_the_fix(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PreflightFailed) as caught:
        preflight(LAB, ALL | {"k3s-worker1": replace(ALL["k3s-worker1"], **changes)})
    assert f"k3s-worker1: {said}" in str(caught.value)
    assert list(caught.value.table.query("not ok")["node"]) == ["k3s-worker1"]


def test_members_of_this_cluster_keep_their_ports_and_routes() -> None:
    ports = frozenset({6443, 10250})
    member: dict[str, Any] = {"member": True, "ca": "cafe", "routes": ("10.42.0.0/24",), "listening": ports}
    assert preflight(LAB, {name: replace(seen, **member) for name, seen in ALL.items()})["ok"].all()


def test_kubeadm_is_told_the_networks_the_name_and_the_version() -> None:
    documents = {each["kind"]: each for each in yaml.safe_load_all(config.init_config(LAB, CONTROL, ALL["k3s-master"]))}
    cluster = documents["ClusterConfiguration"]
    assert cluster["networking"] == {"podSubnet": "10.42.0.0/16", "serviceSubnet": "10.43.0.0/16"}
    assert (cluster["clusterName"], cluster["kubernetesVersion"]) == ("lab", LAB.cluster.version)
    assert cluster["dns"] == {"imageRepository": "registry.k8s.io/coredns", "imageTag": "v1.13.1"}
    assert documents["InitConfiguration"]["localAPIEndpoint"]["advertiseAddress"] == "192.168.1.201"


KERNELS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"cgroupDriver": "systemd"}),
    ({"cgroup": 1}, {"cgroupDriver": "cgroupfs", "failCgroupV1": False}),
    ({"oom": False}, {"oomScoreAdj": 0}),
    ({"memory_limit": 3 * GiB}, {"systemReserved": {"memory": str(5 * GiB)}}),
    ({"container": "systemd-nspawn"}, {"imageGCHighThresholdPercent": 100}),
]


@pytest.mark.parametrize(("changes", "told"), KERNELS)
def test_kubelet_is_told_what_its_machine_is(changes: dict[str, Any], told: dict[str, Any]) -> None:
    made = config.kubelet_config(replace(ALL["k3s-master"], **changes))
    assert told.items() <= made.items()
    special = {"systemReserved", "failCgroupV1", "oomScoreAdj", "imageGCHighThresholdPercent"}
    assert made.keys() & special == told.keys() & special


def test_only_a_container_leaves_kernel_checks_out() -> None:
    bare, contained = (config.registration(WORKER, replace(ALL["k3s-worker1"], container=it)) for it in ("none", "lxc"))
    assert bare["ignorePreflightErrors"] == []
    assert "SystemVerification" in contained["ignorePreflightErrors"]


def test_a_token_is_in_the_document_and_in_no_representation() -> None:
    invitation = config.Invitation("192.168.1.201:6443", "abcdef.0123456789abcdef", "sha256:00")
    assert "0123456789abcdef" not in repr(invitation)
    assert "0123456789abcdef" in config.join_config(WORKER, ALL["k3s-worker1"], invitation)


STEPS = [("v1.35.4", "v1.35.9", ""), ("v1.35.4", "v1.36.0", ""), ("v1.35.4", "v1.35.4", "")]
WRONG_STEPS = [("v1.35.4", "v1.37.0", "skips"), ("v1.35.4", "v1.35.3", "older"), ("v1.35.4", "v1.34.9", "older")]


@pytest.mark.parametrize(("current", "wanted", "said"), STEPS + WRONG_STEPS)
def test_versions_move_up_by_one_minor_at_most(current: str, wanted: str, said: str) -> None:
    if not said:
        upgrade.refuse(current, wanted)
        return
    with pytest.raises(ClusterError, match=said):
        upgrade.refuse(current, wanted)


FETCHED = {
    "clusters": [
        {"name": "kubernetes", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E="}}
    ],
    "users": [{"name": "kubernetes-admin", "user": {"client-key-data": "S0VZ"}}],
}


def test_a_fetched_kubeconfig_is_private_and_bears_the_platforms_name(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path))
    path = kubeconfig.adopt(LAB, yaml.safe_dump(FETCHED), "https://192.168.1.201:6443")
    kept = yaml.safe_load(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert (kept["current-context"], kept["clusters"][0]["cluster"]["server"]) == ("lab", "https://192.168.1.201:6443")
    assert kept["users"][0]["user"] == {"client-key-data": "S0VZ"}


def test_a_missing_kubeconfig_says_what_to_do(tmp_path: Path) -> None:
    raw = {
        "name": "other",
        "cluster": {"distribution": "existing", "kubeconfig": str(tmp_path / "none"), "context": "home"},
    }
    with pytest.raises(ClusterError, match=r"no kubeconfig at .*\n  fix: "):
        driver(pl.load(raw)).kubeconfig()
