"""The flows of the architecture: a readable table, and the NetworkPolicies that let them and nothing else pass."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import islice
from typing import TYPE_CHECKING

from platformlib import composition
from platformlib.security.declared import NAME, Namespace, Object, data, meta, namespaces
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

APP_LABELS = {"kube-dns": "k8s-app"}  # what upstream labels in another way
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
OVERLAYS = 64  # nodes whose overlay address is let in
Port = tuple[int, str]


@dataclass(frozen=True)
class End:
    """One end of a flow: pods of a namespace (all without `app`), or addresses."""

    namespace: str = ""
    app: str = ""
    addresses: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def selector(self) -> Object:
        """The pods, as a label selector."""
        return {"matchLabels": {APP_LABELS.get(self.app, NAME): self.app}} if self.app else {}

    @property
    def peers(self) -> list[Object]:
        """As the other side of a rule."""
        if self.namespace:
            place = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}}
            return [place | ({"podSelector": self.selector} if self.app else {})]
        excluded = {"except": list(self.excluded)} if self.excluded else {}
        return [{"ipBlock": {"cidr": cidr, **excluded}} for cidr in self.addresses]


@dataclass(frozen=True)
class Flow:
    """One way that is open."""

    name: str
    source: End
    to: End
    ports: tuple[Port, ...]
    why: str


def flows(settings: Settings) -> list[Flow]:
    """Every flow whose two ends are part of this platform, one row for each application namespace."""
    here = {each.name: each for each in namespaces(settings)}
    return [
        Flow(row["name"], source, to, _ports(row["ports"], here.get(to.namespace)), row["why"])
        for row in [*composition.flows(settings), *data("flows")]
        for source in _ends(row["from"], here, settings)
        for to in _ends(row["to"], here, settings)
    ]


def _ports(given: Iterable[int | str], to: Namespace | None) -> tuple[Port, ...]:
    """An application's own port stands for 8080."""
    parts = [(int(number), protocol or "TCP") for number, _, protocol in (str(port).partition("/") for port in given)]
    own = to.port if to is not None and to.application else 8080
    return tuple(dict.fromkeys((own if number == 8080 else number, protocol) for number, protocol in parts))  # noqa: PLR2004


def _ends(text: str, here: dict[str, Namespace], settings: Settings) -> list[End]:
    if text == "nodes":
        return [End(addresses=nodes(settings))]
    if text == "anywhere":
        return [End(addresses=("0.0.0.0/0",), excluded=PRIVATE)]
    if text == "applications":
        return [End(each.name) for each in here.values() if each.application]
    namespace, _, app = text.partition("/")
    return [End(namespace, "" if app == "*" else app)] if namespace in here else []


def nodes(settings: Settings) -> tuple[str, ...]:
    """The machines' range. Over k3s's overlay, a machine speaks from the first address of its own pods."""
    network = settings.cluster.network
    overlay = islice(IPv4Network(network.pods).subnets(new_prefix=24), OVERLAYS)
    first = [f"{each.network_address}/32" for each in overlay] if settings.cluster.distribution == "k3s" else []
    return (str(network.nodes), *first)


def objects(settings: Settings) -> list[Object]:
    """A default deny in every namespace under rules, and one or two policies for each of its apps that has flows."""
    closed = [each.name for each in namespaces(settings) if each.default_deny]
    opened = flows(settings)
    denies = [_policy(name, "default-deny", {}, [], []) for name in closed]
    return [*denies, *(policy for name in closed for policy in _allows(name, opened))]


def _allows(namespace: str, opened: list[Flow]) -> Iterator[Object]:
    """A policy for each direction: kube-router takes what one of both directions lets out as let in, too."""
    apps = {end.app for flow in opened for end in (flow.source, flow.to) if end.namespace == namespace}
    for app in sorted(apps):
        end, name = End(namespace, app), app or "all"
        ingress = [{"from": flow.source.peers, "ports": _rendered(flow)} for flow in opened if flow.to == end]
        egress = [{"to": flow.to.peers, "ports": _rendered(flow)} for flow in opened if flow.source == end]
        if ingress:
            yield _policy(namespace, f"allow-to-{name}", end.selector, ingress, [])
        if egress:
            yield _policy(namespace, f"allow-from-{name}", end.selector, [], egress)


def _rendered(flow: Flow) -> list[Object]:
    return [{"port": number, "protocol": protocol} for number, protocol in flow.ports]


def _policy(namespace: str, name: str, selector: Object, ingress: list[Object], egress: list[Object]) -> Object:
    """Without any rule both directions are closed; one without rules is left to the default deny."""
    types = [kind for kind, rules in (("Ingress", ingress), ("Egress", egress)) if rules] or ["Ingress", "Egress"]
    rules = {key: value for key, value in (("ingress", ingress), ("egress", egress)) if value}
    spec = {"podSelector": selector, "policyTypes": types, **rules}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, namespace),
        "spec": spec,
    }


def table(settings: Settings) -> "pd.DataFrame":
    """flow, from, to, ports, why: what is open on this platform."""
    import pandas as pd

    def text(end: End) -> str:
        return f"{end.namespace}/{end.app or '*'}" if end.namespace else ("anywhere" if end.excluded else "nodes")

    rows = [
        [flow.name, text(flow.source), text(flow.to), ", ".join(f"{n}/{p}" for n, p in flow.ports), flow.why]
        for flow in flows(settings)
    ]
    return pd.DataFrame(rows, columns=["flow", "from", "to", "ports", "why"])
