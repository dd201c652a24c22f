"""The driver's rules as tables: which machine is fit, which version may follow, whose firewall rule it is."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import platformlib as pl
from platformlib.clusters.k3s import remove, upgrade
from platformlib.clusters.k3s.preflight import flows, preflight
from platformlib.clusters.k3s.state import NOTHING, State
from platformlib.errors import ClusterError, PreflightFailed
from platformlib.machines.facts import Facts
from tests.unit.test_k3s_config import METAL, ONE, THREE, platform

BARE = replace(NOTHING, controllers=frozenset({"cpu", "cpuset", "memory", "pids"}))
SERVER = replace(
    BARE, version="v1.35.4+k3s1", owner="home", traces=("x",), sqlite=True, agent=True, ca="A", active=True
)
AGENT = replace(SERVER, sqlite=False)


Blocked = list[tuple[tuple[str, str, int, str], str]]


def judge(
    settings: pl.Settings,
    states: dict[str, State] | None = None,
    facts: dict[str, Facts] | None = None,
    shut: Blocked | None = None,
    lost: dict[str, str] | None = None,
) -> set[tuple[str, str]]:
    """(node, check) of every rule that does not hold."""
    nodes = [node for node in settings.cluster.nodes if node.name not in (lost or {})]
    seen = {
        node.name: (facts or {}).get(node.name, replace(METAL, hostname=node.name, addresses=(str(node.address),)))
        for node in nodes
    }
    found = {node.name: (states or {}).get(node.name, replace(BARE, machine_id=node.name)) for node in nodes}
    try:
        preflight(settings, seen, found, shut=shut or (), lost=lost)
    except PreflightFailed as error:
        bad = error.table[~error.table["ok"]]
        return set(zip(bad["node"], bad["check"], strict=True))
    return set()


MEMBERS = {"k3s-1": SERVER, "k3s-2": AGENT}
FACTS = {"k3s-2": replace(METAL, hostname="k3s-2", addresses=("192.168.1.202",))}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, set()),
        (MEMBERS, set()),
        ({"k3s-1": replace(BARE, sockets=((6443, "tcp", "nginx"),))}, {("k3s-1", "ports")}),
        ({"k3s-2": replace(BARE, sockets=((8472, "udp", "?"),))}, {("k3s-2", "ports")}),
        ({"k3s-2": replace(BARE, sockets=((6443, "tcp", "haproxy"), (8472, "tcp", "x")))}, set()),
        ({"k3s-1": replace(SERVER, sockets=((6443, "tcp", "k3s"),)), "k3s-2": AGENT}, set()),
        ({"k3s-1": replace(BARE, firewall="ufw", open=False)}, {("k3s-1", "firewall")}),
        ({"k3s-1": replace(BARE, firewall="nftables", open=False)}, {("k3s-1", "firewall")}),
        ({"k3s-1": replace(BARE, controllers=frozenset({"cpu", "pids"}))}, {("k3s-1", "control groups")}),
        (
            {"k3s-1": replace(BARE, controllers=frozenset({"cpu", "memory", "pids"}))},
            {("k3s-1", "control groups")},
        ),
        ({"k3s-1": replace(BARE, forwarding=("/etc/sysctl.d/99-cis.conf",))}, {("k3s-1", "IP forwarding")}),
        ({"k3s-1": replace(BARE, lacking=("vxlan",))}, {("k3s-1", "modules")}),
        ({"k3s-2": replace(BARE, selinux="enforcing")}, {("k3s-2", "SELinux")}),
        ({"k3s-2": replace(BARE, selinux="enforcing", policy=True)}, set()),
        ({"k3s-2": replace(BARE, registries="foreign")}, set()),  # it is kept: the parameters say nothing of registries
        ({name: replace(BARE, machine_id="same") for name in MEMBERS}, {(name, "machine id") for name in MEMBERS}),
        ({"k3s-2": replace(BARE, traces=("/usr/local/bin/k3s",), version="v1.30.0+k3s1")}, {("k3s-2", "owner")}),
        ({"k3s-2": replace(AGENT, owner="other")}, {("k3s-2", "owner"), ("k3s-2", "cluster")}),
        ({"k3s-1": SERVER, "k3s-2": replace(AGENT, ca="B")}, {("k3s-2", "cluster")}),
        ({"k3s-2": AGENT}, {("k3s-2", "cluster")}),  # its server was rebuilt, and its data is gone
        ({"k3s-1": SERVER, "k3s-2": replace(SERVER, ca="A")}, {("k3s-2", "owner")}),
        ({"k3s-1": replace(SERVER, version="v1.34.1+k3s1"), "k3s-2": AGENT}, {("k3s-1", "version")}),
        ({"k3s-1": replace(SERVER, encrypted=True), "k3s-2": AGENT}, {("k3s-1", "secrets")}),
        ({"k3s-1": replace(SERVER, hold="rollback a"), "k3s-2": AGENT}, {("k3s-1", "interrupted")}),
    ],
)
def test_which_machines_are_fit(states: dict[str, State], expected: set[tuple[str, str]]) -> None:
    assert judge(platform({"nodes": ONE}), states) == expected


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"skew": 42.0}, "clock clocks"),
        ({"skew": 2.0}, "clocks"),
        ({"memory": 1 << 20}, "memory"),
        ({"disk_free": 1 << 30}, "disk"),
        ({"swap": 1 << 30}, ""),  # k3s allows it
        ({"hostname": "localhost"}, ""),  # k3s has node-name
        ({"architecture": "riscv64"}, "architecture"),
        ({"kernel": "3.10.0-1160.el7"}, "kernel"),
        ({"os": "unknown"}, "system"),
        ({"init": "runit"}, "init_system"),
        ({"addresses": ("10.0.0.7",)}, "address"),
        ({"routes": ("10.42.7.0/24",)}, "routes"),
        ({"member": True}, "owner"),
    ],
)
def test_each_fact_has_its_rule(change: dict[str, Any], check: str) -> None:
    facts = {"k3s-2": replace(FACTS["k3s-2"], **change)}
    assert {name for _, name in judge(platform({"nodes": ONE}), facts=facts)} == {
        word.replace("_", " ") for word in check.split()
    }


def test_registries_of_others_are_never_overwritten() -> None:
    settings = platform({"nodes": ONE}, registry={"mirror": "http://192.168.1.1:5000"})
    assert judge(settings, {"k3s-2": replace(BARE, registries="foreign")}) == {("k3s-2", "registries.yaml")}
    assert judge(settings, {"k3s-2": replace(BARE, registries="ours")}) == set()


def test_a_datastore_is_not_changed_on_the_way() -> None:
    """k3s would migrate at whichever restart comes next."""
    settings = platform({"nodes": ONE, "k3s": {"datastore": "etcd"}})
    assert judge(settings, MEMBERS) == {("k3s-1", "datastore")}
    etcd = replace(SERVER, sqlite=False, etcd=True)
    assert judge(settings, {"k3s-1": etcd, "k3s-2": AGENT}) == set()
    assert judge(platform({"nodes": ONE}), {"k3s-1": etcd, "k3s-2": AGENT}) == {("k3s-1", "datastore")}


def test_machines_that_do_not_reach_each_other_are_named_with_the_ports() -> None:
    shut = [(("k3s-2", "k3s-1", 6443, "tcp"), "silence"), (("k3s-1", "k3s-2", 10250, "tcp"), "rejected")]
    assert judge(platform({"nodes": ONE}), shut=shut) == {("k3s-1", "reached"), ("k3s-2", "reached")}
    settings = platform({"nodes": ONE})
    seen = {it.name: replace(METAL, addresses=(str(it.address),)) for it in settings.cluster.nodes}
    with pytest.raises(PreflightFailed, match=r"k3s-1: reached is 6443/tcp from k3s-2 \(silence\)"):
        preflight(settings, seen, {name: replace(BARE, machine_id=name) for name in seen}, shut=shut)


def test_a_machine_that_does_not_answer_is_a_finding_and_not_the_end() -> None:
    assert judge(platform({"nodes": ONE}), lost={"k3s-2": "k3s-2: no SSH"}) == {("k3s-2", "login")}


@pytest.mark.parametrize(
    ("cluster", "wanted", "unwanted"),
    [
        ({"nodes": ONE}, {(8472, "udp"), (10250, "tcp"), (6443, "tcp"), (80, "tcp"), (443, "tcp")}, {(2379, "tcp")}),
        ({"nodes": THREE}, {(2379, "tcp"), (2380, "tcp")}, {(5001, "tcp"), (51820, "udp")}),
        ({"nodes": ONE, "k3s": {"disable": ["traefik"]}}, set(), {(80, "tcp"), (443, "tcp")}),
        ({"nodes": ONE, "k3s": {"embedded_registry": True}}, {(5001, "tcp")}, set()),
        (
            {"nodes": ONE, "k3s": {"config": {"flannel-backend": "wireguard-native"}}},
            {(51820, "udp")}, {(8472, "udp"), (51821, "udp")},
        ),
        ({"nodes": ONE, "k3s": {"config": {"flannel-backend": "none"}}}, set(), {(8472, "udp"), (51820, "udp")}),
    ],
)  # fmt: skip
def test_which_ports_are_in_use(
    cluster: dict[str, Any], wanted: set[tuple[int, str]], unwanted: set[tuple[int, str]]
) -> None:
    found = flows(platform(cluster))
    used = {(port, kind) for _, _, port, kind in found}
    assert wanted <= used
    assert not unwanted & used
    pairs = {(source, target) for source, target, port, _ in found if port == 10250}
    assert pairs == {(target, source) for source, target in pairs}  # both ways
    agents = {node["name"] for node in cluster["nodes"] if node.get("role") != "control-plane"}
    assert not {target for _, target, port, _ in found if port in (6443, 2379, 2380)} & agents


def test_two_clusters_among_the_servers_are_found() -> None:
    etcd = replace(SERVER, sqlite=False, etcd=True)
    states = {"k3s-1": etcd, "k3s-2": replace(etcd, ca="B"), "k3s-3": replace(BARE, machine_id="3")}
    assert judge(platform({"nodes": THREE}), states) == {("k3s-2", "cluster")}


def test_a_rebuilt_first_server_is_fit_to_join() -> None:
    etcd = replace(SERVER, sqlite=False, etcd=True)
    states = {"k3s-2": replace(etcd, machine_id="2"), "k3s-3": replace(etcd, machine_id="3"), "k3s-4": AGENT}
    assert judge(platform({"nodes": THREE}), states) == set()


@pytest.mark.parametrize(
    ("servers", "agents", "wanted", "words"),
    [
        ("v1.35.4+k3s1", "v1.35.4+k3s1", "v1.36.2+k3s1", ""),
        ("v1.35.4+k3s1", "v1.35.4+k3s1", "v1.35.4+k3s2", ""),
        ("v1.36.2+k3s1", "v1.35.4+k3s1", "v1.36.2+k3s1", ""),
        ("v1.35.4+k3s1", "v1.33.0+k3s1", "v1.36.2+k3s1", ""),
        ("v1.35.4+k3s1", "v1.35.4+k3s1", "v1.37.0+k3s1", "skips a minor"),
        ("v1.35.4+k3s1", "v1.32.0+k3s1", "v1.36.2+k3s1", "lag behind"),
        ("v1.35.4+k3s1", "v1.35.4+k3s1", "v1.35.3+k3s1", "is older than"),
        ("v1.35.4+k3s2", "v1.35.4+k3s1", "v1.35.4+k3s1", "is older than"),
        ("v1.35.4+k3s1", "v1.36.2+k3s1", "v1.35.4+k3s1", "is older than"),
        ("v1.35.4+k3s1", "v1.35.4+k3s1", "v1.36.2", "no release"),
        ("v1.35.4+k3s1", "v1.35.4+k3s1", "latest", "no release"),
    ],
)
def test_version_skew(servers: str, agents: str, wanted: str, words: str) -> None:
    if not words:
        upgrade.refuse({"s": servers}, {"a": agents}, wanted)
        return
    with pytest.raises(ClusterError, match=words):
        upgrade.refuse({"s": servers}, {"a": agents}, wanted)


@pytest.mark.parametrize(
    ("now", "wanted", "first"),
    [
        ("v1.33.7+k3s1", "v1.34.3+k3s1", "v1.33.7+k3s3"),
        ("v1.33.7+k3s3", "v1.34.3+k3s1", ""),
        ("v1.33.12+k3s1", "v1.34.3+k3s1", ""),
        ("v1.32.11+k3s1", "v1.33.13+k3s1", "v1.32.11+k3s3"),  # the last releases of v1.33 have etcd 3.6, too
        ("v1.33.6+k3s1", "v1.33.13+k3s1", "v1.33.7+k3s3"),
        ("v1.32.11+k3s3", "v1.33.13+k3s1", ""),
        ("v1.32.2+k3s1", "v1.33.5+k3s1", ""),  # etcd 3.5 to 3.5
        ("v1.34.1+k3s1", "v1.35.4+k3s1", ""),
    ],
)
def test_etcd_3_6_is_reached_from_3_5_26_alone(now: str, wanted: str, first: str) -> None:
    if first:
        with pytest.raises(ClusterError, match=re.escape(f"upgrade to {first} first")):
            upgrade.refuse({"s": now}, {}, wanted, etcd=True)
    else:
        upgrade.refuse({"s": now}, {}, wanted, etcd=True)
    upgrade.refuse({"s": now}, {}, wanted)  # SQLite has no members


@given(st.tuples(*[st.integers(0, 40)] * 3), st.tuples(*[st.integers(0, 40)] * 3))
def test_no_allowed_step_goes_down_or_skips(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    now, then = (f"v1.{minor}.{patch}+k3s{release}" for minor, patch, release in (old, new))
    try:
        upgrade.refuse({"s": now}, {}, then)
    except ClusterError:
        assert new < old or new[0] > old[0] + 1
    else:
        assert new >= old
        assert new[0] - old[0] <= 1


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        (":KUBE-SERVICES - [0:0]", True),
        (":FLANNEL-FWD - [0:0]", True),
        (":CNI-HOSTPORT-DNAT - [0:0]", True),
        ("[5:300] -A KUBE-FIREWALL -m comment --comment x -j DROP", True),
        ('[5:300] -A INPUT -m comment --comment "kubernetes health" -j KUBE-NODEPORTS', True),
        ('-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD', True),
        ('-A FORWARD -m comment --comment "kube-router netpol - X" -m mark --mark 0x20000/0x20000 -j ACCEPT', True),
        (":INPUT DROP [0:0]", False),
        ("[0:0] -A INPUT -p tcp --dport 22 -j ACCEPT", False),
        ('[0:0] -A INPUT -p tcp --dport 6443 -m comment --comment "kubernetes api, mine" -j ACCEPT', False),
        ('-A INPUT -m comment --comment "before KUBE-SERVICES" -j ACCEPT', False),
        (":DOCKER-USER - [0:0]", False),
        ("-A FORWARD -i cni-podman0 -j ACCEPT", False),
        ("*nat", False),
        ("COMMIT", False),
    ],
)
def test_only_rules_of_kubernetes_are_taken_away(line: str, ours: bool) -> None:
    assert bool(re.search(remove.RULES.replace('\\"', '"'), line)) is ours
