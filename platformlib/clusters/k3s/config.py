"""What k3s is told on one machine: config.yaml, registries.yaml, its environment; pure functions of the settings."""

from collections.abc import Mapping
from typing import Any

import yaml

from platformlib.clusters.k3s import hardening, layout
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings
from platformlib.settings.k3s_options import AGENT_OPTIONS, SERVER_OPTIONS
from platformlib.settings.references import FORM, resolve

HEADER = "# Written by platformlib from its parameters file; a change here lasts until the next install.\n"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY")
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
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
    """Whether all images are near: those of k3s in the bundle, the others in the mirror."""
    return settings.cluster.k3s.bundle is not None and settings.registry.mirror is not None


def url(settings: Settings, node: Node) -> str:
    """Where a server is reached by members: the fixed endpoint, or its own address."""
    return f"https://{settings.cluster.k3s.endpoint or node.address}:{layout.PORT}"


def config(settings: Settings, node: Node, facts: Facts, *, interface: str = "", selinux: bool = False) -> Config:
    """config.yaml of one machine. It never holds a secret, and never decides who founds the cluster.

    Args:
        interface: the network interface of the pod network; empty: flannel takes the default route's.
        selinux: the machine enforces SELinux, so containers need labels.
    """
    server = node.role == "control-plane"
    own = {**_member(settings, node, facts, interface, selinux), **(_server(settings, node) if server else {})}
    if not server:
        own["server"] = url(settings, servers(settings)[0])
    merged = {option: value for option, value in own.items() if value not in (None, [], False)}
    known = SERVER_OPTIONS if server else AGENT_OPTIONS
    for given in (settings.cluster.k3s.config, node.config):
        for option, value in given.items():
            if option in known:
                both = isinstance(value, list) and isinstance(merged.get(option), list)
                merged[option] = [*merged[option], *value] if both else value  # type: ignore[misc]
    return merged


def _member(settings: Settings, node: Node, facts: Facts, interface: str, selinux: bool) -> Config:
    """What servers and agents share."""
    hard = settings.cluster.k3s.hardening
    return {
        "node-name": node.name,
        "node-ip": _joined(node.address, node.address6),
        "token-file": layout.TOKEN,
        "node-label": [f"{key}={value}" for key, value in sorted(node.labels.items())],
        "node-taint": list(node.taints),
        "flannel-iface": interface or None,
        "selinux": selinux,
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


def _server(settings: Settings, node: Node) -> Config:
    network, k3s = settings.cluster.network, settings.cluster.k3s
    hard, s3 = k3s.hardening, k3s.snapshots.s3
    bucket = {
        "etcd-s3": True,
        "etcd-s3-endpoint": s3.endpoint,
        "etcd-s3-bucket": s3.bucket,
        "etcd-s3-folder": s3.folder,
        "etcd-s3-region": s3.region,
        "etcd-s3-insecure": s3.insecure,
        "etcd-s3-bucket-lookup-type": s3.lookup if s3.lookup != "auto" else None,
    } if s3 else {}  # fmt: skip
    return {
        "agent-token-file": layout.AGENT_TOKEN,
        "tls-san": _names(settings),
        "cluster-cidr": _joined(network.pods, network.pods6),
        "service-cidr": _joined(network.services, network.services6),
        "flannel-ipv6-masq": node.address6 is not None,
        "write-kubeconfig-mode": "0600",
        "disable": list(k3s.disable),
        "embedded-registry": k3s.embedded_registry,
        "etcd-snapshot-schedule-cron": k3s.snapshots.schedule,
        **bucket,
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


def environment(settings: Settings, node: Node) -> str | None:
    """The environment file of k3s's unit, with the secrets that its references lead to; None when it is empty.

    With a proxy, what is near is never asked for through it: machines, pods, services, cluster names.
    """
    given = {name: _value(name, text) for name, text in settings.cluster.environment.items()}
    upper = {name.upper() for name in given}
    if any(name in upper for name in PROXIES):
        own = next((text for name, text in given.items() if name.upper() == "NO_PROXY"), "")
        given = {name: text for name, text in given.items() if name.upper() != "NO_PROXY"}
        given["NO_PROXY"] = ",".join(dict.fromkeys([*filter(None, own.split(",")), *near(settings)]))
    s3 = settings.cluster.k3s.snapshots.s3
    if s3 and node.role == "control-plane":
        where = "cluster.k3s.snapshots.s3"
        keys = (resolve(s3.access_key, f"{where}.access_key"), resolve(s3.secret_key, f"{where}.secret_key"))
        given |= dict(zip(S3_KEYS, keys, strict=True))
    return HEADER + "".join(f"{name}={_quoted(text)}\n" for name, text in sorted(given.items())) if given else None


def _value(name: str, text: str) -> str:
    return resolve(text, f"cluster.environment.{name}") if FORM.fullmatch(text) else text


def _quoted(text: str) -> str:
    """As both systemd and a shell read it."""
    return '"' + "".join(f"\\{each}" if each in '\\"$`' else each for each in text.replace("\n", " ")) + '"'


def near(settings: Settings) -> list[str]:
    """What is reached without a proxy: loopback, machines, pods, services, the cluster's names, the mirror."""
    network, cluster = settings.cluster.network, settings.cluster
    ranges = [network.nodes, network.pods, network.services, network.pods6, network.services6]
    mirror = settings.registry.mirror.host if settings.registry.mirror else None
    names = [text for node in cluster.nodes for text in (node.name, str(node.address))]
    return [
        "127.0.0.0/8", "localhost", *map(str, filter(None, ranges)), *names,
        ".svc", ".cluster.local", *filter(None, [cluster.k3s.endpoint, mirror]),
    ]  # fmt: skip


def registries(settings: Settings) -> str | None:
    """registries.yaml, with the secrets that its references lead to; None when no registry needs anything.

    The platform's mirror serves every registry that has no entry of its own, under the images' own names.
    """
    k3s = settings.cluster.k3s
    mirrors: dict[str, Any] = {}
    if settings.registry.mirror is not None:
        mirrors["*"] = {"endpoint": [str(settings.registry.mirror).rstrip("/")]}
    elif k3s.embedded_registry:
        mirrors["*"] = {}
    for name, mirror in k3s.registries.mirrors.items():
        entry = {"endpoint": list(mirror.endpoints), "rewrite": dict(mirror.rewrite)}
        mirrors[name] = {key: value for key, value in entry.items() if value}
    configs = {name: _access(name, settings) for name in k3s.registries.access}
    document = {key: value for key, value in (("mirrors", mirrors), ("configs", configs)) if value}
    return HEADER + yaml.safe_dump(document, sort_keys=False) if document else None


def _access(name: str, settings: Settings) -> Config:
    access = settings.cluster.k3s.registries.access[name]
    where = f"cluster.k3s.registries.access.{name}"
    secrets = {"password": access.password, "auth": access.token}
    found = {key: resolve(text, f"{where}.{key}") for key, text in secrets.items() if text}
    auth = {"username": access.username, **found} if access.username or found else {}
    names = {"ca": "ca_file", "certificate": "cert_file", "key": "key_file"}
    tls: Config = {names[kind]: path for kind, path, _ in trust(name, settings)}
    if access.insecure:
        tls["insecure_skip_verify"] = True
    return {key: value for key, value in (("auth", auth), ("tls", tls)) if value}


def trust(name: str, settings: Settings) -> list[tuple[str, str, str]]:
    """(kind, path on the machine, reference) of each certificate and key of one registry."""
    access = settings.cluster.k3s.registries.access[name]
    stem = f"{layout.TRUST}/{name.replace('*', 'all').replace(':', '_')}"
    kinds = {"ca": access.ca, "certificate": access.certificate, "key": access.key}
    return [(kind, f"{stem}-{kind}.pem", reference) for kind, reference in kinds.items() if reference]


def chart(name: str, values: Mapping[str, Any]) -> str:
    """A HelmChartConfig: values for a chart that k3s brings, such as Traefik's."""
    document = {
        "apiVersion": "helm.cattle.io/v1",
        "kind": "HelmChartConfig",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"valuesContent": yaml.safe_dump(dict(values), sort_keys=False)},
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False)


def peer(address: str | None) -> str:
    """The drop-in of an etcd server: found a cluster, or join the one at `address`. Read only without a datastore."""
    return HEADER + yaml.safe_dump({"server": address} if address else {"cluster-init": True})


def render(document: Config) -> str:
    return HEADER + yaml.safe_dump(document, sort_keys=False)
