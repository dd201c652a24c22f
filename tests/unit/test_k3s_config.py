"""What k3s is told, to the letter, for the settings that people have; and only what k3s documents."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import platformlib as pl
from platformlib.clusters.k3s import config, hardening, units
from platformlib.errors import SettingsError
from platformlib.machines.facts import Facts
from platformlib.settings.k3s_options import AGENT_OPTIONS, EXTRA_OPTIONS, SERVER_OPTIONS

METAL = Facts(
    node="k3s-1", os="Debian GNU/Linux 12", hostname="k3s-1", architecture="x86_64", kernel="6.1.0", cpus=4,
    memory=8 << 30, memory_limit=8 << 30, swap=0, disk_free=50 << 30, cgroup=2,
    init="systemd", containerd="", kubelet="",
    addresses=("192.168.1.201",), routes=(), listening=frozenset(), member=False, ca="", container="none", oom=True,
    skew=0.0,
)  # fmt: skip
ONE = [
    {"name": "k3s-1", "address": "192.168.1.201", "role": "control-plane"},
    {"name": "k3s-2", "address": "192.168.1.202"},
]
THREE = [
    {"name": f"k3s-{number}", "address": f"192.168.1.20{number}", "role": "control-plane"} for number in (1, 2, 3)
] + [{"name": "k3s-4", "address": "192.168.1.204"}]
SERVER = {
    "node-name": "k3s-1",
    "node-ip": "192.168.1.201",
    "token-file": "/etc/rancher/k3s/token",
    "agent-token-file": "/etc/rancher/k3s/agent-token",
    "tls-san": ["k3s-1", "192.168.1.201"],
    "cluster-cidr": "10.42.0.0/16",
    "service-cidr": "10.43.0.0/16",
    "write-kubeconfig-mode": "0600",
}
AGENT = {
    "node-name": "k3s-2",
    "node-ip": "192.168.1.202",
    "token-file": "/etc/rancher/k3s/token",
    "server": "https://192.168.1.201:6443",
}
CIPHERS = (
    "tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,"
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,"
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"
)
HARD = {
    "protect-kernel-defaults": True,
    "kubelet-arg": ["streaming-connection-idle-timeout=5m", CIPHERS],
}
HARD_SERVER = HARD | {
    "secrets-encryption": True,
    "kube-apiserver-arg": [
        "enable-admission-plugins=NodeRestriction,EventRateLimit",
        "admission-control-config-file=/var/lib/rancher/k3s/server/psa.yaml",
        "audit-log-path=/var/lib/rancher/k3s/server/logs/audit.log",
        "audit-policy-file=/var/lib/rancher/k3s/server/audit.yaml",
        "audit-log-maxage=30",
        "audit-log-maxbackup=10",
        "audit-log-maxsize=100",
        "service-account-extend-token-expiration=false",
    ],
    "kube-controller-manager-arg": ["terminated-pod-gc-threshold=100"],
}
NAMES = [text for number in (1, 2, 3) for text in (f"k3s-{number}", f"192.168.1.20{number}")]
SIX = [dict(node, address6=f"fd00::{index}") for index, node in enumerate(ONE, 1)]
BOTH = {"pods6": "fd42::/56", "services6": "fd43::/112"}
AIR = {"bundle": "/srv/k3s"}

# name: (cluster, the rest of the platform, node → exact config.yaml)
TABLE: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]] = {
    "one server": ({"nodes": ONE}, {}, {"k3s-1": SERVER, "k3s-2": AGENT}),
    "three servers": (
        {"nodes": THREE},
        {},
        {
            "k3s-1": SERVER | {"tls-san": NAMES},
            "k3s-3": SERVER | {"tls-san": NAMES, "node-name": "k3s-3", "node-ip": "192.168.1.203"},
            "k3s-4": AGENT | {"node-name": "k3s-4", "node-ip": "192.168.1.204"},
        },
    ),
    "air-gapped": (
        {"nodes": ONE, "k3s": AIR},
        {"registry": {"mirror": "http://192.168.1.1:5000"}},
        {
            "k3s-1": SERVER | {"disable-default-registry-endpoint": True},
            "k3s-2": AGENT | {"disable-default-registry-endpoint": True},
        },
    ),
    "hardened": (
        {"nodes": ONE, "k3s": {"hardening": True}},
        {},
        {"k3s-1": SERVER | HARD_SERVER, "k3s-2": AGENT | HARD},
    ),
    "dual-stack": (
        {"nodes": SIX, "network": BOTH},
        {},
        {
            "k3s-1": SERVER
            | {
                "node-ip": "192.168.1.201,fd00::1",
                "tls-san": ["k3s-1", "192.168.1.201", "fd00::1"],
                "cluster-cidr": "10.42.0.0/16,fd42::/56",
                "service-cidr": "10.43.0.0/16,fd43::/112",
                "flannel-ipv6-masq": True,
            },
            "k3s-2": AGENT | {"node-ip": "192.168.1.202,fd00::2"},
        },
    ),
    "a fixed endpoint, labels, taints and further options": (
        {
            "nodes": [
                ONE[0],
                ONE[1] | {"labels": {"disk": "ssd", "arch": "x"}, "taints": ["dedicated=storage:NoSchedule"]},
            ],
            "k3s": {
                "endpoint": "k3s.home",
                "tls_san": ["k3s.example.org"],
                "disable": ["traefik", "servicelb"],
                "config": {"flannel-iface": "eth1", "kubelet-arg": ["max-pods=200"], "etcd-snapshot-retention": 9},
            },
        },
        {},
        {
            "k3s-1": SERVER
            | {
                "tls-san": ["k3s.home", "k3s-1", "192.168.1.201", "k3s.example.org"],
                "disable": ["traefik", "servicelb"],
                "flannel-iface": "eth1",
                "kubelet-arg": ["max-pods=200"],
                "etcd-snapshot-retention": 9,
            },
            "k3s-2": AGENT
            | {
                "node-label": ["arch=x", "disk=ssd"],
                "node-taint": ["dedicated=storage:NoSchedule"],
                "server": "https://k3s.home:6443",
                "flannel-iface": "eth1",
                "kubelet-arg": ["max-pods=200"],
            },
        },
    ),
}


def platform(cluster: dict[str, Any], **rest: Any) -> pl.Settings:
    return pl.load({"name": "home", "cluster": {"distribution": "k3s"} | cluster, **rest})


def rendered(settings: pl.Settings, name: str, facts: Facts = METAL) -> dict[str, Any]:
    node = next(node for node in settings.cluster.nodes if node.name == name)
    document: dict[str, Any] = yaml.safe_load(config.render(config.config(settings, node, facts)))
    return document


@pytest.mark.parametrize("name", TABLE)
def test_exact_configuration(name: str) -> None:
    cluster, rest, expected = TABLE[name]
    settings = platform(cluster, **rest)
    for node, document in expected.items():
        assert rendered(settings, node) == document, node


@pytest.mark.parametrize("name", TABLE)
def test_only_documented_options(name: str) -> None:
    cluster, rest, _ = TABLE[name]
    settings = platform(cluster, **rest)
    for node in settings.cluster.nodes:
        known = SERVER_OPTIONS if node.role == "control-plane" else AGENT_OPTIONS
        assert set(rendered(settings, node.name)) <= known


@given(st.dictionaries(st.sampled_from(sorted(EXTRA_OPTIONS)), st.sampled_from(["x", 7, True, ["a", "b"]]), max_size=6))
def test_further_options_reach_those_who_know_them(extra: dict[str, Any]) -> None:
    settings = platform({"nodes": ONE, "k3s": {"config": extra}})
    assert extra.items() <= rendered(settings, "k3s-1").items()
    agent = rendered(settings, "k3s-2")
    assert {option for option in extra if option in agent} == extra.keys() & AGENT_OPTIONS


def test_in_a_container_the_kernel_is_left_alone() -> None:
    settings = platform({"nodes": ONE, "k3s": {"hardening": True}})
    document = rendered(settings, "k3s-1", replace(METAL, container="systemd-nspawn", cgroup=1))
    assert "protect-kernel-defaults" not in document
    assert "fail-cgroupv1=false" in document["kubelet-arg"]


def test_the_mirror_serves_every_registry_under_the_images_own_names() -> None:
    settings = platform({"nodes": ONE}, registry={"mirror": "http://192.168.1.1:5000"})
    document = yaml.safe_load(config.registries(settings) or "")
    assert document == {"mirrors": {"*": {"endpoint": ["http://192.168.1.1:5000"]}}}
    assert config.registries(platform({"nodes": ONE})) is None


def test_hardening_files_are_what_the_api_server_reads() -> None:
    admission = yaml.safe_load(hardening.admission(hardening.unlabelled(platform({"nodes": ONE}))))
    security = admission["plugins"][0]["configuration"]
    assert security["defaults"]["enforce"] == "restricted"
    assert security["exemptions"]["namespaces"] == ["kube-system"]
    bare = platform({"nodes": ONE}, layers=["cluster", "storage", "observability"])
    assert hardening.unlabelled(bare) == ["node-agents", "observability"]
    assert hardening.unlabelled(platform({"nodes": ONE})) == []
    enabled = next(arg for arg in hardening.APISERVER if arg.startswith("enable-admission-plugins="))
    configured = {plugin["name"] for plugin in admission["plugins"]} - {"PodSecurity"}  # on by default
    assert configured <= set(enabled.partition("=")[2].split(","))
    assert {rule["level"] for rule in yaml.safe_load(hardening.audit_policy())["rules"]} == {"Metadata"}


@pytest.mark.parametrize(("role", "verb"), [("control-plane", "server"), ("worker", "agent")])
def test_units(role: str, verb: str) -> None:
    node = next(node for node in platform({"nodes": ONE}).cluster.nodes if node.role == role)
    lines = units.text(node).splitlines()
    assert f"ExecStart=/usr/local/bin/k3s {verb}" in lines
    assert {"Type=notify", "KillMode=process", "Delegate=yes", "Restart=always", "TasksMax=infinity"} <= set(lines)
    assert "token" not in units.text(node)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"k3s": {"config": {"flanel-iface": "eth1"}}}, "cluster.k3s.config.flanel-iface"),
        ({"k3s": {"config": {"token": "a secret"}}}, "cluster.k3s.config.token"),
        ({"k3s": {"config": {"datastore-endpoint": "mysql://u:p@h"}}}, "cluster.k3s.config.datastore-endpoint"),
        ({"k3s": {"disable": ["treafik"]}}, "cluster.k3s.disable.0"),
        ({"version": "v1.35.4"}, "cluster.version"),
        ({"nodes": THREE, "k3s": {"datastore": "sqlite"}}, "cluster.k3s.datastore"),
        ({"network": {"pods6": "fd42::/56"}}, "cluster.network.services6"),
        ({"network": BOTH}, "cluster.nodes.0.address6"),
        ({"nodes": [ONE[0] | {"labels": {"node-role.kubernetes.io/worker": "x"}}]}, "cluster.nodes.0.labels"),
        ({"nodes": [ONE[0] | {"taints": ["a=b:Never"]}]}, "cluster.nodes.0.taints.0"),
        ({"distribution": "existing", "nodes": [ONE[0] | {"labels": {"a": "b"}}]}, "cluster.nodes.0"),
    ],
)
def test_refused_before_anything_is_touched(change: dict[str, Any], path: str) -> None:
    with pytest.raises(SettingsError) as refused:
        platform({"nodes": ONE} | change)
    assert path in [fault.path for fault in refused.value.faults]
    assert "a secret" not in str(refused.value)


def test_the_documented_homelab_is_hardened_and_valid() -> None:
    settings = pl.load(Path(__file__).parents[2] / "parameters" / "homelab.yaml")
    assert settings.cluster.distribution == "k3s"
    assert settings.cluster.k3s.hardening
