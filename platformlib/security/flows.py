"""The connections that the platform allows, as a table, and the NetworkPolicies that allow them and nothing else."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from itertools import islice
from typing import TYPE_CHECKING

from platformlib import composition
from platformlib.errors import PlatformError
from platformlib.security.declared import NAME, Namespace, Object, data, meta, namespaces
from platformlib.settings import Settings
from platformlib.settings.security import Application, ApplicationFlow

if TYPE_CHECKING:
    import pandas as pd

APP_LABELS = {"kube-dns": "k8s-app"}  # what upstream labels in another way
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
OVERLAYS = 64  # nodes whose overlay address is let in
# In a declared flow, 8080 to an application stands for its own port, 6443 to the nodes for the API server's, and 443 to
# the registry for the registry's.
APPLICATION_PORT, API_PORT, REGISTRY_PORT = 8080, 6443, 443
Port = tuple[int, str]


@dataclass(frozen=True)
class End:
    """One end of a flow: pods of a namespace (all without `app`), or addresses."""

    namespace: str = ""
    app: str = ""
    addresses: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.app or '*'}" if self.namespace else self.text or ", ".join(self.addresses)

    @property
    def selector(self) -> Object:
        """The pods, as a label selector."""
        return {"matchLabels": {APP_LABELS.get(self.app, NAME): self.app}} if self.app else {}

    @property
    def peers(self) -> list[Object]:
        """The end as peers of a NetworkPolicy rule."""
        if self.namespace:
            place = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}}
            return [place | ({"podSelector": self.selector} if self.app else {})]
        return [{"ipBlock": {"cidr": cidr, **_except(cidr, self.excluded)}} for cidr in self.addresses]


def _except(cidr: str, excluded: Iterable[str]) -> Object:
    """An exception has to lie within its range."""
    outer = ip_network(cidr)
    inside = [each for each in excluded if (inner := ip_network(each)).version == outer.version
              and inner.subnet_of(outer)]  # type: ignore[arg-type]  # fmt: skip
    return {"except": inside} if inside else {}


ANYWHERE = End(addresses=("0.0.0.0/0",), excluded=PRIVATE, text="anywhere")


@dataclass(frozen=True)
class Flow:
    """One allowed way. Without ports, every port."""

    name: str
    source: End
    to: End
    ports: tuple[Port, ...]
    why: str


def flows(settings: Settings) -> list[Flow]:
    """Every allowed flow whose two ends are part of this platform.

    Raises:
        PlatformError: an application declares a flow to a component that is not part of the platform.
    """
    here = {each.name: each for each in namespaces(settings)}
    return [*_platform(here, settings), *_applications(here, settings)]


def _platform(here: dict[str, Namespace], settings: Settings) -> Iterator[Flow]:
    for row in [*composition.flows(settings), *data("flows")]:
        for source in _ends(row["from"], here, settings):
            for to in _ends(row["to"], here, settings):
                yield from _split(row, source, to, here.get(to.namespace), settings)


def _split(row: Object, source: End, to: End, namespace: Namespace | None, settings: Settings) -> Iterator[Flow]:
    """A flow to the nodes' port 6443 leads to the API server, whose address and port another cluster may have moved."""
    given, observed = [_parsed(port) for port in row["ports"]], settings.cluster.observed
    if row["to"] == "nodes" and observed and (API_PORT, "TCP") in given:
        api = End(addresses=tuple(observed.api), text="API server")
        yield Flow(row["name"], source, api, ((observed.api_port, "TCP"),), row["why"])
        given.remove((API_PORT, "TCP"))
    meant = {}
    if namespace is not None and namespace.application:
        meant = {APPLICATION_PORT: namespace.port}
    if row["to"] == "registry":
        meant = {REGISTRY_PORT: _registry(settings)[1]}
    ports = dict.fromkeys((meant.get(number, number), protocol) for number, protocol in given)
    if ports:
        yield Flow(row["name"], source, to, tuple(ports), row["why"])


def _parsed(port: int | str) -> Port:
    number, _, protocol = str(port).partition("/")
    return int(number), protocol or "TCP"


def _ends(text: str, here: dict[str, Namespace], settings: Settings) -> list[End]:
    if text == "nodes":
        return [End(addresses=nodes(settings), text="nodes")]
    if text == "anywhere":
        return [ANYWHERE]
    if text == "registry":
        return [_registry(settings)[0]]
    if text == "applications":
        return [End(each.name) for each in here.values() if each.application]
    namespace, _, app = text.partition("/")
    return [End(namespace, "" if app == "*" else app)] if namespace in here else []


def nodes(settings: Settings) -> tuple[str, ...]:
    """Ranges that nodes connect from. On k3s's overlay, a node connects from the first address of its own pods."""
    network = settings.cluster.network
    if settings.cluster.observed:
        return tuple(settings.cluster.observed.nodes)
    overlay = islice(IPv4Network(network.pods).subnets(new_prefix=24), OVERLAYS)
    first = [f"{each.network_address}/32" for each in overlay] if settings.cluster.distribution == "k3s" else []
    return (str(network.nodes), *first)


def _applications(here: dict[str, Namespace], settings: Settings) -> Iterator[Flow]:
    """What the section security.applications opens."""
    for application in settings.security.applications:
        if application.internal_traffic:
            own = End(application.name)
            yield Flow("internal", own, own, (), "pods of an application connect to each other")
        for flow in application.flows:
            source, ports = End(application.name, flow.pods or ""), tuple(map(_parsed, flow.ports))
            to = _target(application, flow, here, settings)
            yield Flow("declared", source, to, ports, f"security.applications: {application.name} declares it")


def _target(application: Application, flow: ApplicationFlow, here: dict[str, Namespace], settings: Settings) -> End:
    if flow.application:
        return End(flow.application)
    if not flow.component:
        network = settings.cluster.network
        return End(addresses=tuple(flow.addresses), excluded=(str(network.pods), str(network.services)))
    parts = {each.name: composition.place(each) for each in composition.components(settings)}
    if flow.component not in parts:
        known = f"its components are {', '.join(parts)}"
        raise PlatformError(
            f"application {application.name} declares a flow to {flow.component}, which is not part of this platform",
            fix=known,
        )
    return _ends(parts[flow.component], here, settings)[0]


def _registry(settings: Settings) -> tuple[End, int]:
    """The registry of signed images, and its port. A mirror of the nodes is not asked for signatures."""
    wanted = settings.security.policies.signatures
    if wanted is None:
        raise PlatformError("a flow to the registry needs security.policies.signatures", fix="see its `when`")
    host, _, port = wanted.images.partition("/")[0].partition(":")
    literal = [f"{host}/32"] if host.replace(".", "").isdigit() else []
    given = tuple(wanted.addresses or literal)
    return (End(addresses=given, text=f"registry {host}") if given else ANYWHERE), int(port or REGISTRY_PORT)


def objects(settings: Settings) -> list[Object]:
    """A default deny in every closed namespace, and one or two policies for each of its apps that has flows."""
    closed = [each.name for each in namespaces(settings) if each.default_deny]
    opened = flows(settings)
    denies = [_policy(name, "default-deny", {}, [], []) for name in closed]
    return [*denies, *(policy for name in closed for policy in _allows(name, opened))]


def _allows(namespace: str, opened: list[Flow]) -> Iterator[Object]:
    """One policy per direction: of a policy with both, kube-router applies the egress rules to ingress as well."""
    apps = {end.app for flow in opened for end in (flow.source, flow.to) if end.namespace == namespace}
    for app in sorted(apps):
        end, name = End(namespace, app), app or "all"
        ingress = [{"from": flow.source.peers, **_ports(flow)} for flow in opened if flow.to == end]
        egress = [{"to": flow.to.peers, **_ports(flow)} for flow in opened if flow.source == end]
        if ingress:
            yield _policy(namespace, f"allow-to-{name}", end.selector, ingress, [])
        if egress:
            yield _policy(namespace, f"allow-from-{name}", end.selector, [], egress)


def _ports(flow: Flow) -> Object:
    """Without ports in the rule, every port."""
    return {"ports": [{"port": number, "protocol": protocol} for number, protocol in flow.ports]} if flow.ports else {}


def _policy(namespace: str, name: str, selector: Object, ingress: list[Object], egress: list[Object]) -> Object:
    """A policy with the given rules. Without any it closes both directions."""
    types = [kind for kind, rules in (("Ingress", ingress), ("Egress", egress)) if rules] or ["Ingress", "Egress"]
    rules = {key: value for key, value in (("ingress", ingress), ("egress", egress)) if value}
    spec = {"podSelector": selector, "policyTypes": types, **rules}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta(name, namespace), "spec": spec,
    }  # fmt: skip


def table(settings: Settings) -> "pd.DataFrame":
    """What is open on this platform.

    Returns:
        Columns: flow, from, to, ports (such as 9090/TCP; "every" without a limit), why.
    """
    import pandas as pd

    rows = [
        [flow.name, str(flow.source), str(flow.to), ", ".join(f"{n}/{p}" for n, p in flow.ports) or "every", flow.why]
        for flow in flows(settings)
    ]
    return pd.DataFrame(rows, columns=["flow", "from", "to", "ports", "why"])
