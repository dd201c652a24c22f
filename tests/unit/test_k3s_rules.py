"""The driver's rules as tables: which machine is fit, which version may follow, whose firewall rule it is."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import platformlib as pl
from platformlib.clusters.k3s import remove, service, skew
from platformlib.clusters.k3s.kubectl import _member
from platformlib.clusters.k3s.preflight import preflight
from platformlib.clusters.k3s.state import State
from platformlib.errors import ClusterError, PreflightFailed
from platformlib.machines.facts import Facts
from tests.unit.test_k3s_config import METAL, ONE, THREE, platform

BARE = State(
    version="", owner="", traces=(), etcd=False, sqlite=False, agent=False, ca="", encrypted=False, password=False,
    active=False, machine_id="", sockets=(), controllers=frozenset({"cpu", "memory", "pids"}), lacking=(),
    firewall="none", open=True,
)  # fmt: skip
SERVER = replace(
    BARE, version="v1.35.4+k3s1", owner="home", traces=("x",), sqlite=True, agent=True, ca="A", active=True
)
AGENT = replace(SERVER, sqlite=False)


def judge(
    settings: pl.Settings, states: dict[str, State] | None = None, facts: dict[str, Facts] | None = None
) -> set[tuple[str, str]]:
    """(node, check) of every rule that does not hold."""
    nodes = settings.cluster.nodes
    seen = {
        node.name: (facts or {}).get(node.name, replace(METAL, hostname=node.name, addresses=(str(node.address),)))
        for node in nodes
    }
    found = {node.name: (states or {}).get(node.name, replace(BARE, machine_id=node.name)) for node in nodes}
    try:
        preflight(settings, seen, found)
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
        ({"k3s-1": replace(BARE, controllers=frozenset({"cpu", "pids"}))}, {("k3s-1", "control groups")}),
        ({"k3s-1": replace(BARE, lacking=("vxlan",))}, {("k3s-1", "modules")}),
        ({name: replace(BARE, machine_id="same") for name in MEMBERS}, {(name, "machine id") for name in MEMBERS}),
        ({"k3s-2": replace(BARE, traces=("/usr/local/bin/k3s",), version="v1.30.0+k3s1")}, {("k3s-2", "owner")}),
        ({"k3s-2": replace(AGENT, owner="other")}, {("k3s-2", "owner"), ("k3s-2", "cluster")}),
        ({"k3s-1": SERVER, "k3s-2": replace(AGENT, ca="B")}, {("k3s-2", "cluster")}),
        ({"k3s-2": AGENT}, {("k3s-2", "cluster")}),  # its server was rebuilt, and its data is gone
        ({"k3s-1": SERVER, "k3s-2": replace(SERVER, ca="A")}, {("k3s-2", "owner")}),
        ({"k3s-1": replace(SERVER, version="v1.34.1+k3s1"), "k3s-2": AGENT}, {("k3s-1", "version")}),
        ({"k3s-1": replace(SERVER, encrypted=True), "k3s-2": AGENT}, {("k3s-1", "secrets")}),
    ],
)
def test_which_machines_are_fit(states: dict[str, State], expected: set[tuple[str, str]]) -> None:
    assert judge(platform({"nodes": ONE}), states) == expected


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"skew": 42.0}, "clock"),
        ({"memory": 1 << 20}, "memory"),
        ({"disk_free": 1 << 30}, "disk"),
        ({"swap": 1 << 30}, "swap"),
        ({"architecture": "riscv64"}, "architecture"),
        ({"kernel": "3.10.0-1160.el7"}, "kernel"),
        ({"os": "unknown"}, "system"),
        ({"init": "runit"}, "init system"),
        ({"hostname": "localhost"}, "hostname"),
        ({"addresses": ("10.0.0.7",)}, "address"),
        ({"routes": ("10.42.7.0/24",)}, "routes"),
        ({"member": True}, "owner"),
    ],
)
def test_each_fact_has_its_rule(change: dict[str, Any], check: str) -> None:
    facts = {"k3s-2": replace(FACTS["k3s-2"], **change)}
    assert judge(platform({"nodes": ONE}), facts=facts) == {("k3s-2", check)}


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
        skew.refuse({"s": servers}, {"a": agents}, wanted)
        return
    with pytest.raises(ClusterError, match=words):
        skew.refuse({"s": servers}, {"a": agents}, wanted)


@given(st.tuples(*[st.integers(0, 40)] * 3), st.tuples(*[st.integers(0, 40)] * 3))
def test_no_allowed_step_goes_down_or_skips(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    now, then = (f"v1.{minor}.{patch}+k3s{release}" for minor, patch, release in (old, new))
    try:
        skew.refuse({"s": now}, {}, then)
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


def test_no_token_leaves_a_journal() -> None:
    line = "error: K10deadbeef::server:s3cr3t refused, token=s3cr3t"
    assert "s3cr3t" not in service.SECRET.sub("<token>", line)


def test_a_node_as_the_api_has_it() -> None:
    node = {
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"unschedulable": True, "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "False", "message": "no network"}]},
    }
    member = _member(node)
    assert (member.ready, member.cordoned, member.cause, member.taints) == (
        False,
        True,
        "no network",
        frozenset({"k=v:NoSchedule"}),
    )
    assert _member({"metadata": {"name": "new"}}).cause == "never reported"
