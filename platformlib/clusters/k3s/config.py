"""What k3s is told on one machine: config.yaml, registries.yaml; pure functions of settings and facts."""

from typing import Any

import yaml

from platformlib.clusters.k3s import hardening, layout
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings
from platformlib.settings.k3s_options import AGENT_OPTIONS

HEADER = "# Written by platformlib from its parameters file; a change here lasts until the next install.\n"
Config = dict[str, Any]


def servers(settings: Settings) -> list[Node]:
    """The control plane, in the order in which it is founded and joined."""
    return [node for node in settings.cluster.nodes if node.role == "control-plane"]


def agents(settings: Settings) -> list[Node]:
    return [node for node in settings.cluster.nodes if node.role == "worker"]


def datastore(settings: Settings) -> str:
    """`sqlite` or `etcd`."""
    chosen = settings.cluster.k3s.datastore
    return chosen if chosen != "auto" else ("etcd" if len(servers(settings)) > 1 else "sqlite")


def air_gapped(settings: Settings) -> bool:
    """Whether all images are near, those of k3s in the bundle and the others in the mirror."""
    return settings.cluster.k3s.bundle is not None and settings.registry.mirror is not None


def url(settings: Settings, node: Node) -> str:
    """Where a server is reached by members: the fixed endpoint, or its own address."""
    return f"https://{settings.cluster.k3s.endpoint or node.address}:{layout.PORT}"


def config(settings: Settings, node: Node, facts: Facts) -> Config:
    """config.yaml of one machine; it never holds a secret, and never decides who founds the cluster."""
    own = _server(settings, node) if node.role == "control-plane" else _agent(settings)
    merged = {**_member(settings, node, facts), **own}
    for option, value in settings.cluster.k3s.config.items():
        if node.role == "control-plane" or option in AGENT_OPTIONS:
            both = isinstance(value, list) and isinstance(merged.get(option), list)
            merged[option] = [*merged[option], *value] if both else value  # type: ignore[misc]
    return {option: value for option, value in merged.items() if value not in (None, [], False)}


def _member(settings: Settings, node: Node, facts: Facts) -> Config:
    """What servers and agents share."""
    hard = settings.cluster.k3s.hardening
    return {
        "node-name": node.name,
        "node-ip": _joined(node.address, node.address6),
        "token-file": layout.TOKEN,
        "node-label": [f"{key}={value}" for key, value in sorted(node.labels.items())],
        "node-taint": list(node.taints),
        "disable-default-registry-endpoint": air_gapped(settings),
        # The kernel of a container is its host's: kubelet must neither demand nor change its settings.
        "protect-kernel-defaults": hard and not facts.in_container,
        "kubelet-arg": [*(hardening.KUBELET if hard else []), *_kubelet(facts)],
        "kube-proxy-arg": ["conntrack-max-per-core=0", "conntrack-min=0"] if facts.in_container else [],
    }


def _kubelet(facts: Facts) -> list[str]:
    """kubelet's part that depends on what the machine is."""
    old = ["fail-cgroupv1=false"] if facts.cgroup == 1 else []
    disk = ["image-gc-high-threshold=100", "image-gc-low-threshold=99"] if facts.in_container else []
    return [*old, *disk]


def _agent(settings: Settings) -> Config:
    return {"server": url(settings, servers(settings)[0])}


def _server(settings: Settings, node: Node) -> Config:
    network, k3s = settings.cluster.network, settings.cluster.k3s
    hard = k3s.hardening
    return {
        "agent-token-file": layout.AGENT_TOKEN,
        "tls-san": _names(settings),
        "cluster-cidr": _joined(network.pods, network.pods6),
        "service-cidr": _joined(network.services, network.services6),
        "flannel-ipv6-masq": node.address6 is not None,
        "write-kubeconfig-mode": "0600",
        "disable": list(k3s.disable),
        "secrets-encryption": hard,
        "kube-apiserver-arg": list(hardening.APISERVER) if hard else [],
        "kube-controller-manager-arg": list(hardening.CONTROLLER_MANAGER) if hard else [],
    }


def _names(settings: Settings) -> list[str]:
    """Every name and address by which the API server may be called."""
    own = [text for node in servers(settings) for text in (node.name, str(node.address), str(node.address6 or ""))]
    return list(dict.fromkeys(filter(None, [settings.cluster.k3s.endpoint or "", *own, *settings.cluster.k3s.tls_san])))


def _joined(four: object, six: object) -> str:
    return f"{four},{six}" if six else str(four)


def registries(settings: Settings) -> str | None:
    """registries.yaml: the mirror for every registry, under the images' own names; None without one."""
    if settings.registry.mirror is None:
        return None
    endpoint = str(settings.registry.mirror).rstrip("/")
    return HEADER + yaml.safe_dump({"mirrors": {"*": {"endpoint": [endpoint]}}}, sort_keys=False)


def peer(address: str | None) -> str:
    """The drop-in of an etcd server: found a cluster, or join the one at `address`. Read only without a datastore."""
    return HEADER + yaml.safe_dump({"server": address} if address else {"cluster-init": True})


def render(document: Config) -> str:
    return HEADER + yaml.safe_dump(document, sort_keys=False)
