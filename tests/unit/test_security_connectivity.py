"""The verdicts on NetworkPolicies against a second reading of the specification, and against written cases."""

from typing import Any

import pytest
from hypothesis import given, settings

from platformlib.security.connectivity import Pod, Rules
from tests.unit.security_policies import APPS, NAMED, NAMESPACES, PORTS, let_through, policies

CIDRS = ["10.42.0.0/16", "10.42.1.0/24", "10.42.2.0/24", "10.42.1.1/32", "0.0.0.0/0"]
NAMES = {(name, "TCP"): number for number, name in NAMED.items()}


def pods() -> dict[str, Pod]:
    made = {}
    for place, namespace in enumerate(sorted(NAMESPACES)):
        for number, app in enumerate(APPS):
            labels = {"app": app} | ({"canary": "yes"} if app == "web" and namespace == "red" else {})
            ports = NAMES if app != "log" else {("http", "TCP"): 8081}
            made[f"{namespace}/{app}"] = Pod(
                namespace, app, labels, f"10.42.{number % 2 + 1}.{place + 1}", f"n{number % 2}", ports=ports
            )
    return made


@settings(max_examples=200, deadline=None)
@given(policies(CIDRS))
def test_the_engine_agrees_with_a_second_reading(given: list[dict[str, Any]]) -> None:
    known, all_pods = Rules(NAMESPACES, tuple(given)), pods()
    engine = {
        (a, b, port)
        for a in all_pods for b in all_pods for port in PORTS
        if a != b and known.verdict(all_pods[a], all_pods[b], port).passes
    }  # fmt: skip
    assert engine == let_through(given, all_pods, NAMESPACES)


def policy(namespace: str = "red", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "p"}, "spec": {"podSelector": {}, **spec}}


FROM_BLUE = {"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}
CASES: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "no policy: everything passes": ([], True),
    "selected without a rule: nothing enters": ([policy()], False),
    "one without `from` lets everybody in": ([policy(ingress=[{}])], True),
    "a namespace that is named": ([policy(ingress=[FROM_BLUE])], True),
    "a bare podSelector means the policy's own namespace": ([policy(ingress=[{"from": [{"podSelector": {}}]}])], False),
    "two policies add up": ([policy(), policy(ingress=[FROM_BLUE])], True),
    "another namespace's policy is nothing to it": ([policy("grey")], True),
    "egress alone leaves ingress open": ([policy(policyTypes=["Egress"])], True),
    "the source's egress counts as well": ([policy("blue", policyTypes=["Egress"])], False),
    "another port": ([policy(ingress=[FROM_BLUE | {"ports": [{"port": 9999}]}])], False),
    "a named port": ([policy(ingress=[FROM_BLUE | {"ports": [{"port": "http"}]}])], True),
    "a range of ports": ([policy(ingress=[FROM_BLUE | {"ports": [{"port": 8000, "endPort": 9000}]}])], True),
    "another protocol": ([policy(ingress=[FROM_BLUE | {"ports": [{"port": 8080, "protocol": "UDP"}]}])], False),
    "a block with a hole": (
        [policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.42.0.0/16", "except": ["10.42.1.0/24"]}}]}])],
        False,
    ),
    "a range with host bits": ([policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.42.9.9/16"}}]}])], True),
}


@pytest.mark.parametrize(("given", "passes"), CASES.values(), ids=CASES.keys())
def test_a_written_case(given: list[dict[str, Any]], passes: bool) -> None:
    known = pods()
    assert Rules(NAMESPACES, tuple(given)).verdict(known["blue/log"], known["red/web"], 8080).passes is passes


def test_a_machine_reaches_its_own_pods_and_is_an_address_to_others() -> None:
    target = pods()["red/web"]
    near = Pod("kube-system", "agent", {}, "192.168.1.1", target.node, host=True)
    far = Pod("kube-system", "agent", {}, "192.168.1.2", "elsewhere", host=True)
    closed = Rules({**NAMESPACES, "kube-system": {}}, (policy(),))
    block = {"from": [{"ipBlock": {"cidr": "192.168.1.0/24"}}]}
    selecting: dict[str, Any] = {"from": [{"namespaceSelector": {}}]}
    assert closed.verdict(near, target, 8080).passes
    assert not closed.verdict(far, target, 8080).passes
    assert Rules({**NAMESPACES, "kube-system": {}}, (policy(ingress=[block]),)).verdict(far, target, 8080).passes
    assert (
        not Rules({**NAMESPACES, "kube-system": {}}, (policy(ingress=[selecting]),)).verdict(far, target, 8080).passes
    )


def test_a_verdict_names_the_policies_that_decided() -> None:
    known = pods()
    said = Rules(NAMESPACES, (policy(),)).verdict(known["blue/db"], known["red/web"], 8080)
    assert said.by == ("Ingress red/p",)
