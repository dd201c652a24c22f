"""Generated NetworkPolicy sets, and a second reading of the specification that shares nothing with the first.

The engine asks of one connection whether it may pass. This reading goes the other way: it writes down, policy by
policy, every connection that the policy lets through, then asks of what is left over.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import product
from typing import Any

from hypothesis import strategies as st

Object = dict[str, Any]
NAMESPACES = {"red": {"team": "red", "tier": "front"}, "blue": {"team": "blue"}, "grey": {}}
APPS = ("web", "db", "log")
PORTS = (8080, 8081, 9090)
NAMED = {8080: "http", 8081: "admin", 9090: "metrics"}


def selectors(values: dict[str, tuple[str, ...]]) -> st.SearchStrategy[Object]:
    key = st.sampled_from(sorted(values))
    labels = key.flatmap(lambda name: st.fixed_dictionaries({name: st.sampled_from(values[name])}))
    expression = st.one_of(
        key.flatmap(lambda name: st.fixed_dictionaries({
            "key": st.just(name), "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(values[name]), min_size=1, max_size=2, unique=True)})),
        st.fixed_dictionaries({"key": key, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
    )  # fmt: skip
    return st.one_of(
        st.just({}),
        st.fixed_dictionaries({"matchLabels": labels}),
        st.fixed_dictionaries({"matchExpressions": st.lists(expression, min_size=1, max_size=2)}),
    )


POD_SELECTORS = selectors({"app": APPS, "canary": ("yes",)})
PLACE_SELECTORS = selectors({"team": ("red", "blue"), "tier": ("front",)})


def blocks(cidrs: list[str]) -> st.SearchStrategy[Object]:
    def with_holes(cidr: str) -> st.SearchStrategy[Object]:
        inside = [each for each in cidrs if each != cidr and IPv4Network(each).subnet_of(IPv4Network(cidr))]
        holes = st.lists(st.sampled_from(inside), max_size=2, unique=True) if inside else st.just([])
        return holes.map(lambda found: {"cidr": cidr, **({"except": found} if found else {})})

    return st.sampled_from(cidrs).flatmap(with_holes)


def peers(cidrs: list[str]) -> st.SearchStrategy[Object]:
    return st.one_of(
        st.fixed_dictionaries({"podSelector": POD_SELECTORS}),
        st.fixed_dictionaries({"namespaceSelector": PLACE_SELECTORS}),
        st.fixed_dictionaries({"namespaceSelector": PLACE_SELECTORS, "podSelector": POD_SELECTORS}),
        st.fixed_dictionaries({"ipBlock": blocks(cidrs)}),
    )


PORT_RULES = st.one_of(
    st.fixed_dictionaries({"port": st.sampled_from(PORTS), "protocol": st.just("TCP")}),
    st.fixed_dictionaries({"port": st.sampled_from(PORTS)}),
    st.fixed_dictionaries({"port": st.sampled_from(list(NAMED.values())), "protocol": st.just("TCP")}),
    st.just({"port": 8080, "endPort": 8081, "protocol": "TCP"}),
    st.just({"protocol": "TCP"}),
    st.just({"port": 8080, "protocol": "UDP"}),
)


def rules(side: str, cidrs: list[str]) -> st.SearchStrategy[Object]:
    return st.fixed_dictionaries(
        {}, optional={side: st.lists(peers(cidrs), max_size=2), "ports": st.lists(PORT_RULES, max_size=2)}
    )


@st.composite
def policies(draw: st.DrawFn, cidrs: list[str], most: int = 4) -> list[Object]:
    """A set of policies in the three namespaces."""
    made = []
    for number in range(draw(st.integers(1, most))):
        spec: Object = {"podSelector": draw(POD_SELECTORS)}
        if draw(st.booleans()):
            spec["ingress"] = draw(st.lists(rules("from", cidrs), max_size=2))
        if draw(st.booleans()):
            spec["egress"] = draw(st.lists(rules("to", cidrs), max_size=2))
        kinds = draw(st.sampled_from([None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]]))
        if kinds:
            spec["policyTypes"] = kinds
        namespace = draw(st.sampled_from(sorted(NAMESPACES)))
        made.append({"metadata": {"namespace": namespace, "name": f"p{number}"}, "spec": spec})
    return made


# The second reading. A pod here is (namespace, labels, address, named ports); a connection is (source, target, port).


def let_through(
    policies: list[Object], pods: dict[str, Any], places: dict[str, dict[str, str]]
) -> set[tuple[str, str, int]]:
    """Every TCP connection between different pods that may pass, by their names."""
    everything = {(a, b, port) for a, b, port in product(pods, pods, PORTS) if a != b}
    return (
        everything
        - _stopped(everything, policies, pods, places, "Ingress")
        - _stopped(everything, policies, pods, places, "Egress")
    )


def _stopped(
    everything: set[tuple[str, str, int]], policies: list[Object], pods: dict[str, Any], places: Any, side: str
) -> set[tuple[str, str, int]]:
    isolated: set[str] = set()
    opened: set[tuple[str, str, int]] = set()
    for policy in policies:
        spec, home = policy["spec"], policy["metadata"]["namespace"]
        declared = spec.get("policyTypes")
        if declared is None:
            declared = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        if side not in declared:
            continue
        chosen = {
            name for name, pod in pods.items() if pod.namespace == home and _chosen(spec["podSelector"], pod.labels)
        }
        isolated |= chosen
        for rule in spec.get(side.lower(), []) or []:
            opened |= set(_opened(rule, side, chosen, home, (pods, places)))
    mine = 1 if side == "Ingress" else 0
    return {way for way in everything if way[mine] in isolated and way not in opened}


def _opened(rule: Object, side: str, chosen: set[str], home: str, known: Any) -> Iterator[tuple[str, str, int]]:
    pods, places = known
    listed = rule.get("from" if side == "Ingress" else "to")
    others = set(pods) if not listed else {n for peer in listed for n in _others(peer, home, pods, places)}
    for one, other, port in product(chosen, others, PORTS):
        source, target = (other, one) if side == "Ingress" else (one, other)
        if not rule.get("ports") or any(port in _numbers(each, pods[target]) for each in rule["ports"]):
            yield source, target, port


def _numbers(given: Object, target: Any) -> set[int]:
    if given.get("protocol", "TCP") != "TCP":
        return set()
    if "port" not in given:
        return set(PORTS)
    if isinstance(given["port"], str):
        return {
            number for (name, protocol), number in target.ports.items() if name == given["port"] and protocol == "TCP"
        }
    first = int(given["port"])
    return set(range(first, int(given.get("endPort", first)) + 1))


def _others(peer: Object, home: str, pods: Any, places: Any) -> Iterator[str]:
    for name, pod in pods.items():
        if "ipBlock" in peer:
            holes = [IPv4Network(each) for each in peer["ipBlock"].get("except", [])]
            address = IPv4Address(pod.address)
            if address in IPv4Network(peer["ipBlock"]["cidr"]) and all(address not in hole for hole in holes):
                yield name
            continue
        if "namespaceSelector" in peer:
            near = _chosen(peer["namespaceSelector"], places[pod.namespace])
        else:
            near = pod.namespace == home
        if near and ("podSelector" not in peer or _chosen(peer["podSelector"], pod.labels)):
            yield name


def _chosen(selector: Object, labels: Any) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if key not in labels or labels[key] != value:
            return False
    for each in selector.get("matchExpressions", []):
        there, value = each["key"] in labels, labels.get(each["key"])
        holds = {"Exists": there, "DoesNotExist": not there}.get(each["operator"])
        if holds is None:
            listed = there and value in each["values"]
            holds = listed if each["operator"] == "In" else not listed
        if not holds:
            return False
    return True
