"""What the rules need to know of a cluster that others installed: read from it, never assumed."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from platformlib import composition
from platformlib.errors import KubeError
from platformlib.security.declared import Object
from platformlib.settings import Settings
from platformlib.settings.security import Observed

if TYPE_CHECKING:
    from platformlib.kube import Kube

BLOCKING = frozenset({"NoSchedule", "NoExecute"})
KUBERNETES = "kubernetes.io/service-name=kubernetes"  # the API server's own EndpointSlices, in `default`


def observed(settings: Settings, kube: "Kube") -> Settings:
    """The settings, completed by what a cluster of distribution `existing` has; others are returned unchanged.

    Values that the parameters give under `cluster.observed` stay as they are. A platform without rules needs none.

    Raises:
        KubeError: the cluster does not show its nodes or the address of its API server.
    """
    if settings.cluster.distribution != "existing" or settings.cluster.observed:
        return settings
    if composition.provider(settings, "namespaces") is None:
        return settings
    found = _observed(kube, str(settings.cluster.network.nodes))
    return settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"observed": found})})


def _observed(kube: "Kube", declared: str) -> Observed:
    nodes = kube.list("v1", "Node")
    slices = kube.list("discovery.k8s.io/v1", "EndpointSlice", "default", KUBERNETES)
    servers = _addresses(address for each in slices for end in each.get("endpoints") or [] for address in _of(end))
    ports = [port["port"] for each in slices for port in each.get("ports") or [] if port.get("name") == "https"]
    machines = _addresses(each["address"] for node in nodes for each in _internal(node))
    if not machines or not servers or not ports:
        fix = "give them in the parameters, under cluster.observed"
        raise KubeError("the cluster does not show the addresses of its nodes and of its API server", fix=fix)
    api = _ranges(servers)
    # A webhook call or a proxied query comes from an API server, which need not be a node.
    ranges = [*_compact(machines, declared), *_ranges(_gateways(nodes)), *api]
    schedulable = sum(_takes_pods(node) for node in nodes)
    return Observed(nodes=list(dict.fromkeys(ranges)), api=api, api_port=int(ports[0]), schedulable=max(schedulable, 1))


def _internal(node: Object) -> list[Object]:
    found = (node.get("status") or {}).get("addresses") or []
    return [each for each in found if each.get("type") == "InternalIP"]


def _of(endpoint: Object) -> list[str]:
    return list(endpoint.get("addresses") or [])


def _addresses(texts: Iterable[str]) -> list[str]:
    """Only what is an IP address: the texts come from the cluster."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(str(ip_address(text.partition("%")[0])))
    return sorted(set(found))


def _ranges(addresses: Iterable[str]) -> list[str]:
    return [str(ip_network(address)) for address in addresses]


def _compact(machines: list[str], declared: str) -> list[str]:
    """The declared range where it holds every node, so that a new node is covered; otherwise each address."""
    network = ip_network(declared)
    inside = all(ip_address(each) in network for each in machines)
    return [declared] if inside else _ranges(machines)


def _gateways(nodes: Iterable[Object]) -> Iterator[str]:
    """The first addresses of each node's pod range: what a node connects from on the usual overlays and bridges."""
    for node in nodes:
        spec = node.get("spec") or {}
        for text in spec.get("podCIDRs") or [spec.get("podCIDR")]:
            with suppress(ValueError, TypeError):
                network = ip_network(text)
                yield from (str(network.network_address), str(network.network_address + 1))


def _takes_pods(node: Object) -> bool:
    spec = node.get("spec") or {}
    blocked = any(taint.get("effect") in BLOCKING for taint in spec.get("taints") or [])
    return not blocked and not spec.get("unschedulable")
