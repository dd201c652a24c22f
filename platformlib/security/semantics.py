"""What NetworkPolicies mean: whether a connection may pass, computed from the objects in a cluster and nothing else.

The rules are those of the API's specification (networking.k8s.io/v1). Two are the engine's: what a machine sends to its
own pods always passes, and pods on the machine's network are addresses, which no pod selector chooses.
https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from platformlib.security.declared import Object

if TYPE_CHECKING:
    from platformlib.kube import Kube

Selector = Mapping[str, Any]
Port = tuple[int, str]


@dataclass(frozen=True)
class Pod:
    """What policies see of a pod. `ports`: name and protocol of a container's port → its number."""

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
    """Whether it passes, and the policies that decided."""

    passes: bool
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Namespaces with their labels, and the policies in them."""

    namespaces: Mapping[str, Mapping[str, str]]
    policies: tuple[Object, ...]

    @cached_property
    def _of(self) -> dict[str, list[Object]]:
        places = {each["metadata"]["namespace"] for each in self.policies}
        return {place: [each for each in self.policies if each["metadata"]["namespace"] == place] for place in places}

    def verdict(self, source: Pod, to: Pod, port: int, protocol: str = "TCP") -> Verdict:
        """Whether `source` may open a connection to a port of `to`; both sides have to let it."""
        if source == to or (source.host and source.node == to.node):
            return Verdict(True, ("its own machine",))
        leaving = self._side("Egress", source, to, to, (port, protocol))
        entering = self._side("Ingress", to, source, to, (port, protocol))
        return Verdict(leaving.passes and entering.passes, leaving.by + entering.by)

    def _side(self, kind: str, selected: Pod, peer: Pod, to: Pod, port: Port) -> Verdict:
        over = [] if selected.host else [p for p in self._of.get(selected.namespace, []) if _selects(p, selected, kind)]
        letting = [each for each in over if any(self._rule(rule, each, peer, to, port) for rule in _rules(each, kind))]
        return Verdict(not over or bool(letting), tuple(f"{kind} {_name(each)}" for each in letting or over))

    def _rule(self, rule: Object, policy: Object, peer: Pod, to: Pod, port: Port) -> bool:
        """Both parts have to match; a part that is missing or empty matches everything."""
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
    """The directions that a policy closes; by default Ingress, and Egress if it has a rule of it."""
    spec = policy["spec"]
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _rules(policy: Object, kind: str) -> list[Object]:
    return list(policy["spec"].get(kind.lower()) or [])


def _name(policy: Object) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def _within(block: Object, address: str) -> bool:
    here = ip_address(address)
    return here in ip_network(block["cidr"]) and not any(here in ip_network(each) for each in block.get("except") or [])


def _port(given: Object, to: Pod, asked: Port) -> bool:
    port, protocol = asked
    if (given.get("protocol") or "TCP") != protocol:
        return False
    wanted = given.get("port")
    if isinstance(wanted, str):
        return to.ports.get((wanted, protocol)) == port
    return wanted is None or wanted <= port <= (given.get("endPort") or wanted)


def matches(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a selector; an empty one chooses everything."""
    given = selector or {}
    equal = all(labels.get(key) == value for key, value in (given.get("matchLabels") or {}).items())
    return equal and all(_expression(each, labels) for each in given.get("matchExpressions") or [])


def _expression(each: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = each["key"], each.get("values") or []
    return {
        "In": labels.get(key) in values, "NotIn": labels.get(key) not in values,
        "Exists": key in labels, "DoesNotExist": key not in labels,
    }[each["operator"]]  # fmt: skip


def world(kube: "Kube") -> World:
    """The cluster's own namespaces and policies."""
    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in kube.list("v1", "Namespace")}
    return World(labels, tuple(kube.list("networking.k8s.io/v1", "NetworkPolicy")))


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
