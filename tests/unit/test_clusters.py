"""What machines are told and which are refused; worked out from facts and settings alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib.clusters import driver, kubeconfig
from platformlib.clusters.kubeadm import config, upgrade
from platformlib.clusters.kubectl import CONTROL_PLANE, Member, full, label_changes
from platformlib.clusters.preflight import preflight
from platformlib.errors import ClusterError, PreflightFailed, SettingsError
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
    "leftovers": ({"member": True, "ca": "feed", "marks": ("done",)}, "leftovers is another cluster's CA"),
    "owner": ({"member": True, "marks": ()}, "owner is another installer's, expected no cluster, or platformlib's"),
    "version": (
        {"member": True, "marks": ("done",), "kubelet": "v1.35.1"},
        f"version is v1.35.1, expected {LAB.cluster.version}; upgrade('{LAB.cluster.version}'), or put v1.35.1 into",
    ),
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
    member |= {"marks": ("done",), "kubelet": LAB.cluster.version}
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
    seen = (replace(ALL["k3s-worker1"], container=it) for it in ("none", "lxc"))
    bare, contained = (config.registration(WORKER, facts, []) for facts in seen)
    assert bare["ignorePreflightErrors"] == []
    assert "SystemVerification" in contained["ignorePreflightErrors"]


def test_a_token_is_in_the_document_and_in_no_representation() -> None:
    invitation = config.Invitation("192.168.1.201:6443", "abcdef.0123456789abcdef", "sha256:00")
    assert "0123456789abcdef" not in repr(invitation)
    assert "0123456789abcdef" in config.join_config(WORKER, ALL["k3s-worker1"], invitation)


STEPS = [
    ("v1.35.4", ["v1.35.4"], "v1.35.9", ""),
    ("v1.35.4", ["v1.35.4"], "v1.36.0", ""),
    ("v1.35.4", ["v1.33.1"], "v1.35.4", ""),
    ("v1.35.4", ["v1.35.4"], "v1.37.0", "v1.35.4 to v1.37.0 skips"),
    ("v1.35.4", ["v1.35.4"], "v1.35.3", "older than v1.35.4"),
    ("v1.35.4", ["v1.35.4"], "v1.34.9", "older than v1.35.4"),
    ("v1.35.4", ["v1.35.5"], "v1.35.4", "older than v1.35.5"),
    ("v1.35.4", ["v1.32.9"], "v1.36.0", "a kubelet of v1.32.9 would lag behind"),
]
BACK = [
    ("v1.35.5", ["v1.35.5"], "v1.35.4", ""),
    ("v1.35.4", ["v1.35.5"], "v1.35.4", ""),
    ("v1.36.0", ["v1.35.5"], "v1.35.5", "v1.36.0 cannot go back to v1.35.5"),
]


@pytest.mark.parametrize(
    ("api", "kubelets", "wanted", "said", "back"),
    [(*step, False) for step in STEPS] + [(*step, True) for step in BACK],
)
def test_versions_move_up_by_one_minor_at_most_and_back_within_one(
    api: str, kubelets: list[str], wanted: str, said: str, back: bool
) -> None:
    if not said:
        upgrade.refuse(api, kubelets, wanted, back=back)
        return
    with pytest.raises(ClusterError, match=said):
        upgrade.refuse(api, kubelets, wanted, back=back)


def platform(*nodes: dict[str, Any]) -> Any:
    listed = [{"name": f"n{number}", "address": f"192.168.1.{number}"} | node for number, node in enumerate(nodes, 1)]
    return pl.load({"name": "small", "cluster": {"distribution": "kubeadm", "nodes": listed}})


SERVER: dict[str, Any] = {"role": "control-plane"}
DEDICATED = "dedicated=storage:NoSchedule"


def test_without_workers_the_control_plane_carries_workloads() -> None:
    alone, two = platform(SERVER), platform(SERVER, {"taints": [DEDICATED, "spot:NoExecute"]})
    facts = ALL["k3s-master"]
    one = next(yaml.safe_load_all(config.init_config(alone, alone.cluster.nodes[0], facts)))
    many = next(yaml.safe_load_all(config.init_config(two, two.cluster.nodes[0], facts)))
    assert one["nodeRegistration"]["taints"] == []
    assert many["nodeRegistration"]["taints"] == [{"key": CONTROL_PLANE, "effect": "NoSchedule"}]
    invitation = config.Invitation("192.168.1.1:6443", "abcdef.0123456789abcdef", "sha256:00")
    joining = yaml.safe_load(config.join_config(two.cluster.nodes[1], facts, invitation))
    assert joining["nodeRegistration"]["taints"] == [
        {"key": "dedicated", "value": "storage", "effect": "NoSchedule"},
        {"key": "spot", "effect": "NoExecute"},
    ]


def test_several_control_planes_with_kubeadm_are_refused_with_the_reason() -> None:
    with pytest.raises(SettingsError, match=r"2 control-plane nodes — expected 1 with distribution kubeadm.*address"):
        platform(SERVER, SERVER)


def label(node: dict[str, Any], live: Member, settings: Any = None) -> Member:
    """What a node is after the changes that its parameters ask for; the words of kubectl, carried out."""
    made = settings or platform(SERVER, node)
    own = made.cluster.nodes[-1]
    unwanted = [config.CONTROL_PLANE_TAINT] if len(made.cluster.nodes) == 1 else []
    labels, taints, notes = dict(live.labels), set(live.taints), dict(live.annotations)
    for verb, kind, name, _, *words in label_changes(own, live, config.taints(made, own), unwanted):
        assert (kind, name) == ("node", own.name)
        for word in words:
            key, _, value = word.partition("=")
            if verb == "taint":
                taints = taints - {full(word[:-1])} if word.endswith("-") else taints | {word}
            elif word.endswith("-"):
                labels.pop(word[:-1])
            else:
                (labels if verb == "label" else notes)[key] = value
    return replace(live, labels=labels, taints=frozenset(taints), annotations=notes)


def test_labels_and_taints_follow_the_parameters_and_leave_the_users_own() -> None:
    live = Member("n2", True, "v1", False, {"mine": "1"}, frozenset({"own=:NoSchedule"}))
    first = label({"labels": {"disk": "ssd", "zone": "a"}, "taints": [DEDICATED, "spot:NoExecute"]}, live)
    assert first.labels == {"mine": "1", "disk": "ssd", "zone": "a"}
    assert first.taints == {"own=:NoSchedule", DEDICATED, "spot=:NoExecute"}
    second = label({"labels": {"disk": "hdd"}}, first)
    assert second.labels == {"mine": "1", "disk": "hdd"}
    assert second.taints == {"own=:NoSchedule"}
    assert label({"labels": {"disk": "hdd"}}, second) == second
    assert label({}, live) == live


def test_a_control_plane_that_is_left_alone_loses_its_taint_and_gets_it_back_with_a_worker() -> None:
    live = Member("n1", True, "v1", False, {}, frozenset({f"{CONTROL_PLANE}=:NoSchedule", "own=:NoSchedule"}))
    alone = label({}, live, platform(SERVER))
    assert alone.taints == {"own=:NoSchedule"}
    two = platform({"role": "worker"}, SERVER)
    assert label({}, replace(alone, name="n2"), two).taints == live.taints


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


def test_a_kubeconfig_with_other_clusters_is_neither_replaced_nor_deleted(tmp_path: Path) -> None:
    theirs = tmp_path / "config"
    raw = LAB.model_dump(mode="json")
    raw["cluster"]["kubeconfig"] = str(theirs)
    settings, fetched = pl.load(raw), yaml.safe_dump(FETCHED)
    for text in ("clusters: [{name: work}, {name: lab}]\n", "no kubeconfig", "{broken"):
        theirs.write_text(text)
        with pytest.raises(SettingsError, match=r"cluster\.kubeconfig: .* has other clusters, and was left as it is"):
            kubeconfig.adopt(settings, fetched, "https://192.168.1.201:6443")
        kubeconfig.forget(settings)
        assert theirs.read_text() == text
    theirs.unlink()
    for _ in range(2):
        kubeconfig.adopt(settings, fetched, "https://192.168.1.201:6443")
    kubeconfig.forget(settings)
    kubeconfig.forget(settings)
    assert not theirs.exists()


def test_a_missing_kubeconfig_says_what_to_do(tmp_path: Path) -> None:
    raw = {
        "name": "other",
        "cluster": {"distribution": "existing", "kubeconfig": str(tmp_path / "none"), "context": "home"},
    }
    with pytest.raises(ClusterError, match=r"no kubeconfig at .*\n  fix: "):
        driver(pl.load(raw)).kubeconfig()
