"""Rules across fields that come with k3s: its options, versions, datastore, dual-stack, labels."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from platformlib.errors import Fault
from platformlib.settings.k3s_options import EXTRA_OPTIONS, OWNED

Raw = Mapping[str, Any]
# A kubelet may not give itself labels of these domains (NodeRestriction), but for the few that follow.
RESERVED = re.compile(r"(^|\.)(kubernetes|k8s)\.io/")
ALLOWED = re.compile(r"^((kubelet|node)\.kubernetes\.io/|topology\.kubernetes\.io/(zone|region)$)")


def _mapping(raw: Any, *path: str) -> Raw:
    for key in path:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, Mapping) else {}


def _nodes(raw: Raw) -> list[tuple[str, Raw]]:
    nodes = _mapping(raw, "cluster").get("nodes")
    listed = enumerate(nodes) if isinstance(nodes, list) else ()
    return [(f"cluster.nodes.{index}", node) for index, node in listed if isinstance(node, Mapping)]


def _is_k3s(raw: Raw) -> bool:
    return _mapping(raw, "cluster").get("distribution") == "k3s"


def options_are_documented(raw: Raw) -> Iterator[Fault]:
    """k3s ignores a misspelt key of config.yaml; the driver must not."""
    for name in _mapping(raw, "cluster", "k3s", "config"):
        path = f"cluster.k3s.config.{name}"
        if name in OWNED:
            yield Fault(path, "an option that the driver sets", "it left out; see cluster.* in parameters/example.yaml")
        elif name not in EXTRA_OPTIONS:
            yield Fault(path, "unknown option", "an option of `k3s server --help`, without its dashes")


def version_is_a_release(raw: Raw) -> Iterator[Fault]:
    """A release of k3s is Kubernetes' version with a suffix of its own."""
    version = _mapping(raw, "cluster").get("version")
    if _is_k3s(raw) and isinstance(version, str) and not re.search(r"\+k3s\d+$", version):
        yield Fault("cluster.version", version, f"a release of k3s, such as {version.split('+')[0]}+k3s1")


def datastore_fits_the_servers(raw: Raw) -> Iterator[Fault]:
    """SQLite lives on one server and cannot be shared."""
    servers = sum(node.get("role") == "control-plane" for _, node in _nodes(raw))
    if _is_k3s(raw) and _mapping(raw, "cluster", "k3s").get("datastore") == "sqlite" and servers > 1:
        yield Fault("cluster.k3s.datastore", "sqlite", f"etcd or auto, with {servers} servers")


def dual_stack_is_whole(raw: Raw) -> Iterator[Fault]:
    """Pods, services and every machine have IPv6, or none has."""
    network = _mapping(raw, "cluster", "network")
    parts = {f"cluster.network.{key}": network.get(key) for key in ("pods6", "services6")}
    parts |= {f"{path}.address6": node.get("address6") for path, node in _nodes(raw)}
    if any(parts.values()):
        if not _is_k3s(raw):
            yield Fault("cluster.network.pods6", "dual-stack", "distribution k3s with it")
        for path, value in parts.items():
            if not value:
                yield Fault(path, "nothing", "an IPv6 value, as others have one (dual-stack)")


def labels_are_the_kubelets_to_give(raw: Raw) -> Iterator[Fault]:
    """A kubelet that asks for a reserved label is refused by the API server, and its node never registers."""
    for path, node in _nodes(raw):
        for label in _mapping(node, "labels"):
            if RESERVED.search(str(label)) and not ALLOWED.search(str(label)):
                yield Fault(f"{path}.labels", str(label), "a label outside of kubernetes.io and k8s.io")
        distribution = _mapping(raw, "cluster").get("distribution")
        if (node.get("labels") or node.get("taints")) and distribution == "existing":
            yield Fault(path, "labels or taints", "distribution k3s or kubeadm with them")


K3S_RULES: tuple[Callable[[Raw], Iterator[Fault]], ...] = (
    options_are_documented,
    version_is_a_release,
    datastore_fits_the_servers,
    dual_stack_is_whole,
    labels_are_the_kubelets_to_give,
)
