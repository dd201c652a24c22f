"""What k3s is told, to the letter, for the settings that people have; and only what k3s documents."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import platformlib as pl
from platformlib.clusters.k3s import config, hardening, host, layout
from platformlib.clusters.k3s.state import NOTHING
from platformlib.errors import SettingsError
from platformlib.machines.facts import Facts
from platformlib.settings.k3s_options import AGENT_OPTIONS, EXTRA_OPTIONS, SERVER_OPTIONS, options

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


KNOWN = sorted(name for name in EXTRA_OPTIONS if options()[name].known_to("v1.35.4+k3s1"))
VALUES = st.sampled_from(["x", 7, 0, True, False, ["a", "b"]])


@given(st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=6))
def test_further_options_reach_those_who_know_them(extra: dict[str, Any]) -> None:
    """To the letter: `tls-san-security: false` and `etcd-snapshot-retention: 0` are options like others."""
    settings = platform({"nodes": ONE, "k3s": {"config": extra}})
    for name, known in (("k3s-1", SERVER_OPTIONS), ("k3s-2", AGENT_OPTIONS)):
        document = rendered(settings, name)
        wanted = {option: value for option, value in extra.items() if option in known}
        assert {option: document.get(option) for option in wanted} == wanted
        assert not (extra.keys() - known) & document.keys()


def test_a_machine_has_options_of_its_own() -> None:
    both = {"kubelet-arg": ["max-pods=200"], "node-external-ip": "203.0.113.1"}
    nodes = [ONE[0], ONE[1] | {"config": {"kubelet-arg": ["v=2"], "node-external-ip": "203.0.113.2"}}]
    settings = platform({"nodes": nodes, "k3s": {"config": both}})
    assert rendered(settings, "k3s-1")["node-external-ip"] == "203.0.113.1"
    own = rendered(settings, "k3s-2")
    assert (own["kubelet-arg"], own["node-external-ip"]) == (["max-pods=200", "v=2"], "203.0.113.2")


@pytest.mark.parametrize(
    ("option", "version", "known"),
    [
        ("etcd-s3-retention", "v1.33.3+k3s1", False),
        ("etcd-s3-retention", "v1.33.4+k3s1", True),
        ("etcd-s3-retention", "v1.32.8+k3s1", True),
        ("etcd-s3-retention", "v1.34.1+k3s1", True),
        ("helm-controller-arg", "v1.35.4+k3s1", False),
        ("helm-controller-arg", "v1.35.7+k3s1", True),
        ("helm-controller-arg", "v1.32.13+k3s1", False),
        ("helm-controller-arg", "v1.37.0+k3s1", True),
        ("etcd-s3-bucket-lookup-type", "v1.32.11+k3s3", False),
        ("kubelet-arg", "v1.32.0+k3s1", True),
    ],
)
def test_which_version_brought_an_option(option: str, version: str, known: bool) -> None:
    assert options()[option].known_to(version) is known


@pytest.mark.parametrize(
    ("interfaces", "gateway", "expected"),
    [
        ((("eth0", "10.0.0.5"), ("eth1", "192.168.1.201")), "eth0", "eth1"),  # flannel would take eth0
        ((("eth0", "192.168.1.201"), ("eth1", "10.0.0.5")), "eth0", None),
        ((("eth1", "192.168.1.201"),), "", "eth1"),  # without a default route flannel finds none
    ],
)
def test_pods_use_the_interface_of_the_machines_address(
    interfaces: tuple[tuple[str, str], ...], gateway: str, expected: str | None
) -> None:
    settings = platform({"nodes": ONE})
    state = replace(NOTHING, interfaces=interfaces, gateway=gateway)
    files = {file.path: file.content for file in host.wanted(settings, settings.cluster.nodes[0], METAL, state)}
    document = yaml.safe_load(files[layout.CONFIG] or "")
    assert document.get("flannel-iface") == expected


def test_selinux_is_told_to_containerd_where_it_is_enforced() -> None:
    settings = platform({"nodes": ONE})
    files = host.wanted(settings, settings.cluster.nodes[0], METAL, replace(NOTHING, selinux="enforcing", policy=True))
    assert "selinux: true" in next(file.content or "" for file in files if file.path == layout.CONFIG)


def test_a_proxy_is_never_asked_for_what_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY", 'http://user:p"$w@proxy.home:3128')
    given = {"HTTPS_PROXY": "env:PROXY", "HTTP_PROXY": "http://proxy.home:3128", "NO_PROXY": ".home,10.42.0.0/16"}
    settings = platform({"nodes": ONE, "environment": given, "k3s": {"endpoint": "k3s.home"}})
    text = config.environment(settings, settings.cluster.nodes[0]) or ""
    lines = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines["HTTPS_PROXY"] == '"http://user:p\\"\\$w@proxy.home:3128"'
    without = lines["NO_PROXY"].strip('"').split(",")
    assert without[:2] == [".home", "10.42.0.0/16"]
    assert len(without) == len(set(without))
    wanted = {"10.43.0.0/16", "192.168.1.0/24", "192.168.1.202", "k3s-2", ".svc", ".cluster.local", "k3s.home"}
    assert wanted | {"127.0.0.0/8", "localhost"} <= set(without)
    shell = subprocess.run(  # noqa: PLW1510 - its output tells
        ["sh", "-ac", '. /dev/stdin; printf %s "$HTTPS_PROXY"'], input=text, capture_output=True, text=True
    )
    assert shell.stdout == 'http://user:p"$w@proxy.home:3128'


def test_without_an_environment_there_is_no_file_and_the_unit_reads_those_that_people_know() -> None:
    settings = platform({"nodes": ONE})
    node = settings.cluster.nodes[0]
    assert config.environment(settings, node) is None
    wanted = {"/etc/default/%N", "/etc/sysconfig/%N", "/etc/systemd/system/%N.service.env"}
    assert {
        line.split("=-")[1] for line in host.unit(node).splitlines() if line.startswith("EnvironmentFile")
    } == wanted
    for path in ("/etc/default/k3s", layout.environment_file("worker"), layout.REGISTRIES):
        assert path in host.INPUTS  # a change of it restarts k3s


def test_a_bucket_for_snapshots_has_its_keys_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "AKIAEXAMPLE")
    monkeypatch.setenv("SECRET", "s3cr3t")
    s3 = {"endpoint": "minio.home:9000", "bucket": "etcd", "access_key": "env:KEY", "secret_key": "env:SECRET"}
    snapshots = {"schedule": "0 */6 * * *", "s3": s3 | {"lookup": "path"}}
    settings = platform({"nodes": THREE, "k3s": {"snapshots": snapshots}})
    server, agent = settings.cluster.nodes[0], settings.cluster.nodes[3]
    document = rendered(settings, "k3s-1")
    assert document["etcd-s3"] is True
    assert (document["etcd-s3-bucket-lookup-type"], document["etcd-snapshot-schedule-cron"]) == ("path", "0 */6 * * *")
    assert "s3cr3t" not in config.render(document)
    assert 'AWS_SECRET_ACCESS_KEY="s3cr3t"' in (config.environment(settings, server) or "")
    assert config.environment(settings, agent) is None
    assert "etcd-s3" not in rendered(settings, "k3s-4")


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


def test_registries_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PASSWORD", "s3cr3t")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n", "utf-8")
    own = {
        "mirrors": {"docker.io": {"endpoints": ["https://cache.home:5000"], "rewrite": {"^library/(.*)": "hub/$1"}}},
        "access": {
            "cache.home:5000": {"username": "puller", "password": "env:PASSWORD", "ca": f"file:{tmp_path / 'ca.pem'}"},
            "lab.home": {"insecure": True},
        },
    }
    settings = platform({"nodes": ONE, "k3s": {"registries": own}}, registry={"mirror": "http://192.168.1.1:5000"})
    ca = f"{layout.TRUST}/cache.home_5000-ca.pem"
    assert yaml.safe_load(config.registries(settings) or "") == {
        "mirrors": {
            "*": {"endpoint": ["http://192.168.1.1:5000"]},
            "docker.io": {"endpoint": ["https://cache.home:5000"], "rewrite": {"^library/(.*)": "hub/$1"}},
        },
        "configs": {
            "cache.home:5000": {"auth": {"username": "puller", "password": "s3cr3t"}, "tls": {"ca_file": ca}},
            "lab.home": {"tls": {"insecure_skip_verify": True}},
        },
    }
    files = host.wanted(settings, settings.cluster.nodes[1], METAL, NOTHING)
    assert {(file.path, file.mode) for file in files if file.path in (ca, layout.REGISTRIES)} == {
        (ca, 0o600), (layout.REGISTRIES, 0o600),
    }  # fmt: skip


def test_machines_give_each_other_images() -> None:
    settings = platform({"nodes": ONE, "k3s": {"embedded_registry": True}})
    assert rendered(settings, "k3s-1")["embedded-registry"] is True
    assert "embedded-registry" not in rendered(settings, "k3s-2")  # an option of servers; agents learn it from them
    assert yaml.safe_load(config.registries(settings) or "") == {"mirrors": {"*": {}}}


def test_manifests_and_chart_values_are_on_servers_alone(tmp_path: Path) -> None:
    (tmp_path / "extra.yaml").write_text("kind: Namespace\n", "utf-8")
    values = {"traefik": {"deployment": {"kind": "DaemonSet"}}}
    settings = platform({"nodes": ONE, "k3s": {"manifests": [str(tmp_path / "extra.yaml")], "chart_values": values}})
    server, agent = (
        {file.path: file.content for file in host.wanted(settings, node, METAL, NOTHING)}
        for node in settings.cluster.nodes
    )
    assert server[f"{layout.MANIFESTS}/platformlib-extra.yaml"] == "kind: Namespace\n"
    chart = yaml.safe_load(server[f"{layout.MANIFESTS}/platformlib-traefik-values.yaml"] or "")
    assert (chart["kind"], chart["metadata"]["name"]) == ("HelmChartConfig", "traefik")
    assert yaml.safe_load(chart["spec"]["valuesContent"]) == values["traefik"]
    assert not [path for path in agent if path.startswith(layout.MANIFESTS)]


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
    lines = host.unit(node).splitlines()
    assert f"ExecStart=/usr/local/bin/k3s {verb}" in lines
    assert {"Type=notify", "KillMode=process", "Delegate=yes", "Restart=always", "TasksMax=infinity"} <= set(lines)
    assert "token" not in host.unit(node)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"k3s": {"config": {"flanel-iface": "eth1"}}}, "cluster.k3s.config.flanel-iface"),
        ({"k3s": {"config": {"token": "a secret"}}}, "cluster.k3s.config.token"),
        ({"k3s": {"config": {"datastore-endpoint": "mysql://u:p@h"}}}, "cluster.k3s.config.datastore-endpoint"),
        ({"k3s": {"disable": ["treafik"]}}, "cluster.k3s.disable.0"),
        ({"k3s": {"config": {"helm-controller-arg": ["a"]}}}, "cluster.k3s.config.helm-controller-arg"),
        ({"k3s": {"token": "a secret"}}, "cluster.k3s.token"),
        ({"k3s": {"snapshots": {"schedule": "0 * * * *"}}}, "cluster.k3s.snapshots"),
        ({"nodes": [ONE[0], ONE[1] | {"config": {"etcd-arg": ["x"]}}]}, "cluster.nodes.1.config.etcd-arg"),
        ({"nodes": [ONE[0] | {"config": {"node-ip": "1.2.3.4"}}]}, "cluster.nodes.0.config.node-ip"),
        ({"distribution": "kubeadm", "environment": {"HTTP_PROXY": "http://p:1"}}, "cluster.environment"),
        ({"nodes": THREE[:2]}, "cluster.nodes"),
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
