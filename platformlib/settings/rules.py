"""What no single field can say: rules across fields.

They read the raw mapping and skip what is malformed, so that one reading of a file reports the faults
of types and the faults of sense together.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Any

from platformlib.errors import Fault
from platformlib.settings.k3s_rules import K3S_RULES
from platformlib.settings.security import SECURITY_RULES

Raw = Mapping[str, Any]
Rule = Callable[[Raw], Iterator[Fault]]
DEFAULTS = {"nodes": "192.168.1.0/24", "pods": "10.42.0.0/16", "services": "10.43.0.0/16"}


def _section(raw: Any, *path: str) -> Any:
    for key in path:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _nodes(raw: Raw) -> list[tuple[str, Raw]]:
    nodes = _section(raw, "cluster", "nodes")
    listed = enumerate(nodes) if isinstance(nodes, list) else ()
    return [(f"cluster.nodes.{index}", node) for index, node in listed if isinstance(node, Mapping)]


def _networks(raw: Raw) -> dict[str, IPv4Network]:
    wanted = DEFAULTS | dict(_section(raw, "cluster", "network") or {})
    parsed: dict[str, IPv4Network] = {}
    for name in DEFAULTS:
        with suppress(ValueError):
            parsed[name] = IPv4Network(wanted[name])
    return parsed


def networks_do_not_overlap(raw: Raw) -> Iterator[Fault]:
    """Pods, services and machines need address ranges of their own."""
    for (one, first), (other, second) in combinations(_networks(raw).items(), 2):
        if first.overlaps(second):
            yield Fault(f"cluster.network.{other}", str(second), f"a range that does not overlap {one} ({first})")


def networks_are_private(raw: Raw) -> Iterator[Fault]:
    """A public range would cut the cluster off from the real owners of those addresses."""
    for name, network in _networks(raw).items():
        if not network.is_private:
            yield Fault(f"cluster.network.{name}", str(network), "a private range (RFC 1918), such as 10.42.0.0/16")


def nodes_are_distinct(raw: Raw) -> Iterator[Fault]:
    """Two machines never share a name or an address."""
    for key in ("name", "address"):
        seen: dict[str, str] = {}
        for path, node in _nodes(raw):
            value = str(node.get(key))
            if value in seen:
                yield Fault(f"{path}.{key}", value, f"a {key} of its own; {seen[value]} has it already")
            seen.setdefault(value, path)


def nodes_are_in_their_network(raw: Raw) -> Iterator[Fault]:
    """A machine outside of `network.nodes` would not be reached by the rules made for it."""
    network = _networks(raw).get("nodes")
    for path, node in _nodes(raw):
        with suppress(ValueError):
            if network and IPv4Address(str(node.get("address"))) not in network:
                yield Fault(f"{path}.address", str(node["address"]), f"an address of cluster.network.nodes ({network})")


def control_plane_has_a_quorum(raw: Raw) -> Iterator[Fault]:
    """kubeadm is driven with one control plane; k3s with one, or with three or five for etcd's quorum."""
    distribution = _section(raw, "cluster", "distribution")
    allowed = {"kubeadm": (1,), "k3s": (1, 3, 5)}.get(str(distribution))
    count = sum(node.get("role") == "control-plane" for _, node in _nodes(raw))
    if allowed and count not in allowed:
        wanted = f"{' or '.join(map(str, allowed))} with distribution {distribution}"
        if distribution == "kubeadm" and count > 1:
            wanted += "; more need an address before them that outlives each, which k3s takes as cluster.k3s.endpoint"
        yield Fault("cluster.nodes", f"{count} control-plane nodes", wanted)


def existing_needs_a_kubeconfig(raw: Raw) -> Iterator[Fault]:
    """A cluster that others installed is known by its kubeconfig and a context of it.

    The current context is not enough: it changes with every `kubectl config use-context`.
    """
    if _section(raw, "cluster", "distribution") != "existing":
        return
    for key, expected in {"kubeconfig": "the path of a kubeconfig", "context": "the name of a context in it"}.items():
        if not _section(raw, "cluster", key):
            yield Fault(f"cluster.{key}", "nothing", f"{expected}, with distribution existing")


RULES: tuple[Rule, ...] = (
    *K3S_RULES,
    *SECURITY_RULES,
    networks_do_not_overlap,
    networks_are_private,
    nodes_are_distinct,
    nodes_are_in_their_network,
    control_plane_has_a_quorum,
    existing_needs_a_kubeconfig,
)


def broken_rules(raw: Raw) -> list[Fault]:
    """Every fault of sense in a raw `platform` mapping."""
    return [fault for rule in RULES for fault in rule(raw)]
