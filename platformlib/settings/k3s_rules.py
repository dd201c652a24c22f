"""Rules across fields that come with k3s: its options, versions, datastore, dual-stack, labels."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from platformlib.errors import Fault
from platformlib.settings.k3s_options import options
from platformlib.versions import versions

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
    """k3s skips a key of config.yaml that it does not know, with a warning that nobody reads; the driver does not."""
    version = str(_mapping(raw, "cluster").get("version", versions()["k3s"]))
    given = [("cluster.k3s.config", _mapping(raw, "cluster", "k3s", "config"), "server")]
    given += [(f"{path}.config", _mapping(node, "config"), str(node.get("role"))) for path, node in _nodes(raw)]
    for where, mapping, role in given:
        for name in mapping:
            option = options().get(name)
            if option is None:
                yield Fault(f"{where}.{name}", "unknown option", "an option of `k3s server --help`, without its dashes")
            elif option.owned:
                expected = "it left out; see cluster.* in parameters/example.yaml"
                yield Fault(f"{where}.{name}", "an option that the driver sets", expected)
            elif not option.known_to(version):
                since = ", ".join(option.since)
                yield Fault(
                    f"{where}.{name}", f"not an option of {version}", f"a version that has it: {since} or later"
                )
            elif where != "cluster.k3s.config" and role != "control-plane" and not option.agent:
                yield Fault(f"{where}.{name}", "an option of servers", "it on a machine with role control-plane")


def k3s_alone(raw: Raw) -> Iterator[Fault]:
    """What only k3s's driver knows would be silently lost with another distribution."""
    if _is_k3s(raw):
        return
    if _mapping(raw, "cluster").get("environment"):
        yield Fault("cluster.environment", "variables", "distribution k3s with them")
    for path, node in _nodes(raw):
        if node.get("config"):
            yield Fault(f"{path}.config", "options", "distribution k3s with them")


def s3_has_a_datastore(raw: Raw) -> Iterator[Fault]:
    """k3s takes snapshots of etcd alone."""
    snapshots = _mapping(raw, "cluster", "k3s", "snapshots")
    one_server = sum(node.get("role") == "control-plane" for _, node in _nodes(raw)) == 1
    chosen = _mapping(raw, "cluster", "k3s").get("datastore", "auto")
    sqlite = chosen == "sqlite" or (chosen == "auto" and one_server)
    if sqlite and (snapshots.get("s3") or snapshots.get("schedule")):
        yield Fault("cluster.k3s.snapshots", "a schedule or a bucket, with SQLite", "datastore etcd with it")


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
    k3s_alone,
    s3_has_a_datastore,
    version_is_a_release,
    datastore_fits_the_servers,
    dual_stack_is_whole,
    labels_are_the_kubelets_to_give,
)
