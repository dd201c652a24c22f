"""Which pod may reach which: what the cluster's NetworkPolicies mean, and what real connections show.

The first half computes a verdict from the policies alone, by the rules of networking.k8s.io/v1. Two rules are the
engine's: a node always reaches its own pods, and pods on the host network are addresses, which no pod selector matches.
https://kubernetes.io/docs/concepts/services-networking/network-policies/

The second half tries every connection between running pods and compares.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from platformlib.checks import Check, Found
from platformlib.security import probes
from platformlib.security.declared import Object
from platformlib.security.pod_security import app
from platformlib.security.probes import Probe
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube
    from platformlib.plots import Picture

COLUMNS = ("source", "source_node", "to", "to_node", "port", "protocol", "expected", "found", "ok", "by")
OPEN = "open"
DNS = 53
Selector = Mapping[str, Any]
Port = tuple[int, str]
End = tuple["Pod", int, str]


@dataclass(frozen=True)
class Pod:
    """What policies see of a pod. `ports`: name and protocol of a container port to its number."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(hash=False)
    address: str
    node: str = ""
    host: bool = False
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Verdict:
    """Whether a connection passes, and the policies that decided."""

    passes: bool
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """The namespaces of a cluster with their labels, and the NetworkPolicies in them."""

    namespaces: Mapping[str, Mapping[str, str]]
    policies: tuple[Object, ...]

    @cached_property
    def _by_namespace(self) -> dict[str, list[Object]]:
        places = {each["metadata"]["namespace"] for each in self.policies}
        return {place: [each for each in self.policies if each["metadata"]["namespace"] == place] for place in places}

    def verdict(self, source: Pod, to: Pod, port: int, protocol: str = "TCP") -> Verdict:
        """Whether `source` may connect to a port of `to`. Egress of one and ingress of the other both have to allow."""
        if source == to or (source.host and source.node == to.node):
            return Verdict(True, ("its own node",))
        leaving = self._side("Egress", source, to, to, (port, protocol))
        entering = self._side("Ingress", to, source, to, (port, protocol))
        return Verdict(leaving.passes and entering.passes, leaving.by + entering.by)

    def _side(self, kind: str, selected: Pod, peer: Pod, to: Pod, port: Port) -> Verdict:
        own = self._by_namespace.get(selected.namespace, [])
        over = [] if selected.host else [each for each in own if _selects(each, selected, kind)]
        letting = [each for each in over if any(self._rule(rule, each, peer, to, port) for rule in _rules(each, kind))]
        return Verdict(not over or bool(letting), tuple(f"{kind} {_name(each)}" for each in letting or over))

    def _rule(self, rule: Object, policy: Object, peer: Pod, to: Pod, port: Port) -> bool:
        """Peers and ports both have to match; a part that is missing or empty matches everything."""
        peers, ports = rule.get("from") or rule.get("to") or [], rule.get("ports") or []
        known = not peers or any(self._peer(each, policy, peer) for each in peers)
        return known and (not ports or any(_port(each, to, port) for each in ports))

    def _peer(self, given: Object, policy: Object, pod: Pod) -> bool:
        if "ipBlock" in given:
            return _within(given["ipBlock"], pod.address)
        if pod.host:
            return False
        if given.get("namespaceSelector") is None:
            place = policy["metadata"]["namespace"] == pod.namespace
        else:
            place = matches(given["namespaceSelector"], self.namespaces.get(pod.namespace, {}))
        return place and matches(given.get("podSelector"), pod.labels)


def _selects(policy: Object, pod: Pod, kind: str) -> bool:
    return kind in types(policy) and matches(policy["spec"].get("podSelector"), pod.labels)


def types(policy: Object) -> list[str]:
    """The directions that a policy closes: by default Ingress, and Egress if it has an egress rule."""
    spec = policy["spec"]
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _rules(policy: Object, kind: str) -> list[Object]:
    return list(policy["spec"].get(kind.lower()) or [])


def _name(policy: Object) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def _within(block: Object, address: str) -> bool:
    here, holes = ip_address(address), block.get("except") or []
    # The API server accepts ranges with host bits set, as in 10.0.0.1/24.
    return here in ip_network(block["cidr"], strict=False) and not any(
        here in ip_network(each, strict=False) for each in holes
    )


def _port(given: Object, to: Pod, asked: Port) -> bool:
    port, protocol = asked
    if (given.get("protocol") or "TCP") != protocol:
        return False
    wanted = given.get("port")
    if isinstance(wanted, str):
        return to.ports.get((wanted, protocol)) == port
    return wanted is None or wanted <= port <= (given.get("endPort") or wanted)


def matches(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a label selector. An empty selector matches everything."""
    given = selector or {}
    equal = all(labels.get(key) == value for key, value in (given.get("matchLabels") or {}).items())
    return equal and all(_expression(each, labels) for each in given.get("matchExpressions") or [])


def _expression(each: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = each["key"], each.get("values") or []
    return {
        "In": labels.get(key) in values, "NotIn": labels.get(key) not in values,
        "Exists": key in labels, "DoesNotExist": key not in labels,
    }[each["operator"]]  # fmt: skip


def rules(kube: "Kube") -> Rules:
    """The cluster's namespaces and policies."""
    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in kube.list("v1", "Namespace")}
    return Rules(labels, tuple(kube.list("networking.k8s.io/v1", "NetworkPolicy")))


def pods(objects: Iterable[Object]) -> list[Pod]:
    """The pods that run and have an address."""
    return [_pod(each) for each in objects if (each.get("status") or {}).get("podIP") and _runs(each)]


def _runs(obj: Object) -> bool:
    return obj["status"].get("phase") == "Running" and not obj["metadata"].get("deletionTimestamp")


def _pod(obj: Object) -> Pod:
    metadata, spec = obj["metadata"], obj["spec"]
    named = {
        (str(port["name"]), str(port.get("protocol", "TCP"))): int(port["containerPort"])
        for container in [*spec["containers"], *_sidecars(spec)]
        for port in container.get("ports") or []
        if "name" in port
    }
    address, host = obj["status"]["podIP"], bool(spec.get("hostNetwork"))
    labels = metadata.get("labels") or {}
    return Pod(metadata["namespace"], metadata["name"], labels, address, spec.get("nodeName", ""), host, named)


def _sidecars(spec: Object) -> list[Object]:
    return [each for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"]


def table(kube: "Kube", settings: Settings, namespaces: list[str] | None = None) -> "pd.DataFrame":
    """Try every running pod against every port on which a pod listens, and compare with the policies.

    A port counts as listening when the pod reaches it from inside itself; other declared ports are left out.

    Args:
        namespaces: only pods of these; default: all.

    Returns:
        Columns: source, source_node, to, to_node, port, protocol, expected and found (bool), ok, by (the policies that
        decide; where `ok` is false, what was found instead).

    Raises:
        PlatformError: a pod runs on a machine without SSH access.
    """
    import pandas as pd

    objects = {f"{o['metadata']['namespace']}/{o['metadata']['name']}": o for o in kube.list("v1", "Pod")}
    chosen = [pod for pod in pods(objects.values()) if namespaces is None or pod.namespace in namespaces]
    ends = _listening(settings, chosen, objects)
    ways = [(pod, end) for pod in chosen for end in ends if not pod.host or not end[0].host]
    found = probes.run(settings, [_probe(objects[str(pod)], end) for pod, end in ways])
    known = rules(kube)
    rows = [_row(known, pod, end, found[_probe(objects[str(pod)], end)]) for pod, end in ways]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _listening(settings: Settings, pods: list[Pod], objects: dict[str, Object]) -> list[End]:
    declared = [(pod, port, protocol) for pod in pods for port, protocol in ports(objects[str(pod)])]
    found = probes.run(settings, [_probe(objects[str(end[0])], end) for end in declared])
    return [end for end in declared if found[_probe(objects[str(end[0])], end)] == OPEN]


def ports(obj: Object) -> list[Port]:
    """The ports that a pod's containers declare. Of UDP only DNS, because no other port answers a probe."""
    given = [
        (int(port["containerPort"]), str(port.get("protocol", "TCP")))
        for container in obj["spec"]["containers"]
        for port in container.get("ports") or []
    ]
    wanted = (each for each in dict.fromkeys(given) if each[1] == "TCP" or each == (DNS, "UDP"))
    return list(wanted)


def _probe(source: Object, end: End) -> Probe:
    to, port, protocol = end
    return Probe(*probes.start(source), to.address, port, protocol)


def _row(known: Rules, pod: Pod, end: End, found: str) -> list[Any]:
    to, port, protocol = end
    said = known.verdict(pod, to, port, protocol)
    passes = found == OPEN
    ends = [str(pod), pod.node, str(to), to.node, port, protocol]
    return [*ends, said.passes, passes, said.passes == passes, "; ".join(said.by) if said.passes == passes else found]


def check(table: "pd.DataFrame") -> Check:
    """Every connection is as the policies say, and both answers occur."""
    expected = "each connection passes or fails as the cluster's policies say; both occur, within and across nodes"
    fix = "the row's `by` names the policies; does the network plugin run on both nodes?"
    return Check("connectivity", expected, fix, lambda: _judged(table))


def _judged(table: "pd.DataFrame") -> Found:
    wrong = table[~table["ok"]]
    crossing = table[table["source_node"] != table["to_node"]]
    words = f"{len(table)} connections, {len(crossing)} across nodes, {int(table['found'].sum())} open"
    if len(wrong):
        lines = [
            f"{row.source} → {row.to}:{row.port} {'passes' if row.found else 'fails'}" for row in wrong.itertuples()
        ]
        return False, f"{len(wrong)} of {words} differ: {'; '.join(lines[:5])}"
    return bool(table["found"].any()) and not table["found"].all() and len(crossing) > 0, words


def by_app(table: "pd.DataFrame", kube: "Kube") -> "pd.DataFrame":
    """The table as a matrix of apps: 1 open, 0 closed, between when pods differ, negative when not as expected."""
    names = {
        f"{o['metadata']['namespace']}/{o['metadata']['name']}": f"{o['metadata']['namespace']}/{app(o)}"
        for o in kube.list("v1", "Pod")
    }
    short = table.assign(source=table["source"].map(names), to=table["to"].map(names) + ":" + table["port"].astype(str))
    whole = short.assign(value=short["found"].astype(float).where(short["ok"], -1.0))
    matrix: pd.DataFrame = whole.pivot_table(index="source", columns="to", values="value", aggfunc="mean")
    return matrix


def picture(matrix: "pd.DataFrame") -> "Picture":
    """The matrix of `by_app` as a picture: rows connect to columns; a red cross where it is not as declared."""
    from platformlib.plots.grids import matrix as drawn
    from platformlib.plots.picture import Picture, Sentence

    title = "Who reaches whom"
    if matrix.empty:
        return Sentence(title, "There is nothing to compare.")
    return Picture(
        drawn(matrix, title, "rows connect to columns; green: open, pale: closed, red cross: not as declared")
    )
