"""What is declared about security is whole, fits together, and turns into objects that say the same."""

from typing import Any

import pytest

import platformlib as pl
from platformlib import composition
from platformlib.errors import PlatformError, SettingsError
from platformlib.security import access, flows, pod_security, probes, quotas, rbac, workloads
from platformlib.security.declared import data, namespaces
from platformlib.security.semantics import Pod, World, matches
from platformlib.settings import Settings

RAW: dict[str, Any] = {
    "name": "test",
    "cluster": {
        "distribution": "kubeadm",
        "nodes": [{"name": "a", "address": "192.168.1.11", "role": "control-plane"}],
    },
    "security": {"applications": [{"name": "shop", "size": "small", "port": 9000}]},
}


@pytest.fixture
def settings() -> Settings:
    return pl.load(RAW)


def changed(**security: Any) -> Settings:
    return pl.load(RAW | {"security": RAW["security"] | security})


def test_every_namespace_below_restricted_has_a_reason_and_says_who_needs_it(settings: Settings) -> None:
    for each in composition.namespaces(settings).values():
        assert each.level == "restricted" or (each.reason and each.workloads), each.name


def test_a_namespace_of_a_layer_that_is_not_there_is_left_out(settings: Settings) -> None:
    assert {"argocd", "velero", "minio"}.isdisjoint(each.name for each in namespaces(settings))


def test_an_exception_needs_a_reason() -> None:
    with pytest.raises(SettingsError, match="reason"):
        changed(exceptions=[{"namespace": "shop", "level": "privileged"}])


def test_a_declared_exception_lowers_one_namespace_alone() -> None:
    lowered = changed(exceptions=[{"namespace": "shop", "level": "baseline", "reason": "it needs root for now"}])
    levels = {each.name: each.pods for each in namespaces(lowered)}
    assert (levels["shop"], levels["observability"]) == ("baseline", "restricted")


def policies(settings: Settings) -> World:
    labels = {each.name: {"kubernetes.io/metadata.name": each.name} for each in namespaces(settings)}
    return World(labels, tuple(flows.objects(settings)))


def pod(namespace: str, app: str, address: str = "10.42.0.9", **extra: Any) -> Pod:
    key = "k8s-app" if app == "kube-dns" else "app.kubernetes.io/name"
    return Pod(namespace, app, {key: app}, address, **extra)


def everyone(settings: Settings) -> list[Pod]:
    ends = {(end.namespace, end.app or "any") for flow in flows.flows(settings) for end in (flow.source, flow.to)}
    return [pod(namespace, app) for namespace, app in sorted(ends) if namespace]


def test_the_rendered_policies_let_through_what_the_table_says_and_nothing_else(settings: Settings) -> None:
    """The table is read here by itself; the policies by the engine. kube-system is open by declaration."""
    world, opened = policies(settings), flows.flows(settings)
    closed = {each.name for each in namespaces(settings) if each.default_deny}
    ports = {port for flow in opened for port in flow.ports}

    def at(end: flows.End, one: Pod) -> bool:
        return end.namespace == one.namespace and (not end.app or end.app == one.name)

    for source in everyone(settings):
        for to in everyone(settings):
            for port in ports - {None} if source != to else ():
                ways = [flow for flow in opened if port in flow.ports]
                out = source.namespace not in closed or any(at(f.source, source) and at(f.to, to) for f in ways)
                into = to.namespace not in closed or any(at(f.source, source) and at(f.to, to) for f in ways)
                assert world.verdict(source, to, *port).passes is (out and into), f"{source} → {to}:{port}"


def test_the_api_server_reaches_kyverno_and_an_unknown_pod_reaches_nothing(settings: Settings) -> None:
    world = policies(settings)
    machine = Pod("kube-system", "kube-apiserver", {}, "192.168.1.11", "a", host=True)
    stranger = pod("shop", "stranger")
    kyverno = pod("kyverno", "kyverno-admission-controller", node="b")
    assert world.verdict(machine, kyverno, 9443).passes
    assert not world.verdict(machine, kyverno, 8000).passes
    assert not world.verdict(stranger, kyverno, 9443).passes
    assert world.verdict(stranger, pod("kube-system", "kube-dns"), 53, "UDP").passes


def test_no_rendered_policy_has_rules_of_both_directions(settings: Settings) -> None:
    for policy in flows.objects(settings):
        assert not ("ingress" in policy["spec"] and "egress" in policy["spec"]), policy["metadata"]


def test_an_application_is_reached_on_its_own_port(settings: Settings) -> None:
    table = flows.table(settings)
    row = table[(table["flow"] == "ingress") & (table["to"] == "shop/*")]
    assert list(row["ports"]) in (["9000/TCP"], [])  # traefik's namespace is kube-system, which is there
    assert len(row) == 1


def test_k3s_speaks_to_pods_from_its_overlay() -> None:
    cluster = {"distribution": "k3s", "nodes": RAW["cluster"]["nodes"]}
    assert "10.42.0.0/32" in flows.nodes(pl.load(RAW | {"cluster": cluster}))
    assert "10.42.0.0/16" not in flows.nodes(pl.load(RAW | {"cluster": cluster}))


def test_every_persona_has_expectations_requests_and_a_role(settings: Settings) -> None:
    expectations = data("expectations")
    assert set(data("personas")) == set(expectations["expected"]) == set(expectations["requests"])
    roles = {each["metadata"]["name"] for each in rbac.objects(settings) if each["kind"] == "ClusterRole"}
    assert roles == {f"platform-{name}" for name in data("personas")}


def test_the_roles_grant_what_is_expected_and_nothing_more(settings: Settings) -> None:
    """The rules read as Kubernetes reads them, without asking it."""
    for cell in access.cells(settings):
        row = data("personas")[cell.persona]
        there = row["bound"] == "cluster" or cell.place == "applications"
        resource, _, group = cell.resource.partition(".")
        granted = there and any(
            group in rule["apiGroups"] and {resource, "*"} & set(rule["resources"]) and cell.verb in rule["verbs"]
            for rule in row["rules"]
        )
        assert granted is cell.expected, cell


def test_nobody_may_give_themselves_more(settings: Settings) -> None:
    rules = [rule for row in data("personas").values() for rule in row["rules"]]
    assert not any(set(rule["verbs"]) & {"escalate", "bind", "impersonate", "*"} for rule in rules)


def test_personas_can_be_left_out() -> None:
    assert {each["metadata"]["name"] for each in rbac.objects(changed(personas=["viewer"]))} == {"platform-viewer"}


def test_quotas_follow_their_size(settings: Settings) -> None:
    made = {(each["kind"], each["metadata"]["namespace"]): each for each in quotas.objects(settings)}
    assert made["ResourceQuota", "shop"]["spec"]["hard"]["limits.memory"] == settings.security.sizes.small.memory
    assert {name for kind, name in made if kind == "LimitRange"} == {
        each.name for each in namespaces(settings) if each.size
    }


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30), ("3k", 3000)]
)
def test_quantities(text: str, value: float) -> None:
    assert quotas.number(text) == value


FAULTS: dict[str, dict[str, Any]] = {
    "hostNetwork": {"spec": {"hostNetwork": True}},
    "hostPath": {"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}},
    "privileged": {"spec": {"containers": [{"name": "main", "securityContext": {"privileged": True}}]}},
    "allowPrivilegeEscalation": {
        "spec": {"containers": [{"name": "main", "securityContext": {"allowPrivilegeEscalation": None}}]}
    },
    "capabilities": {"spec": {"containers": [{"name": "main", "securityContext": {"capabilities": None}}]}},
    "runAsNonRoot": {"spec": {"securityContext": {"runAsNonRoot": False}}},
    "seccompProfile": {"spec": {"securityContext": {"seccompProfile": None}}},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_pod_is_named_alone(fault: str) -> None:
    good = workloads.pod("x", "y")
    assert list(pod_security.faults(good["spec"])) == []
    assert list(pod_security.faults(workloads.laid_over(good, FAULTS[fault])["spec"])) == [fault]


def test_every_example_differs_from_the_good_pod() -> None:
    for rule, each in data("examples").items():
        good = workloads.pod("x", "y")
        assert workloads.laid_over(good, each["refuse"]) != good, rule
        assert each["words"], rule


@pytest.mark.parametrize(
    ("rule", "risk"),
    [
        ({"verbs": ["*"], "resources": ["pods"]}, "every verb"),
        ({"verbs": ["get"], "resources": ["*"]}, "every resource"),
        ({"verbs": ["bind"], "resources": ["roles"]}, "bind"),
        ({"verbs": ["list"], "resources": ["secrets"]}, "secrets"),
        ({"verbs": ["delete"], "resources": ["secrets"]}, ""),
        ({"verbs": ["create"], "resources": ["pods/exec"]}, "pods/exec"),
        ({"verbs": ["get"], "resources": ["pods"]}, ""),
    ],
)
def test_a_grant_that_is_worth_a_look(rule: dict[str, Any], risk: str) -> None:
    assert access.risk(rule) == risk


def test_an_empty_selector_chooses_everything() -> None:
    assert matches({}, {}) and matches(None, {"a": "b"})


MIRRORED = {"kind": "Node", "name": "k3s-master"}
OWN, STATIC = "7f9f6c11-3f0e-4a55-8f0c-5f8a2ad0a001", "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("hash_", "owner", "expected"),
    [
        (STATIC, MIRRORED, STATIC),
        (STATIC, {"kind": "ReplicaSet", "name": "x"}, OWN),  # anybody may write the annotation
        ("x/;1e touch /root/owned", MIRRORED, OWN),
        ("$(touch /root/owned)", MIRRORED, OWN),
        (None, MIRRORED, OWN),
    ],
)
def test_a_pods_annotation_never_reaches_a_shell(hash_: str | None, owner: dict[str, str], expected: str) -> None:
    metadata = {"uid": OWN, "annotations": {"kubernetes.io/config.hash": hash_}, "ownerReferences": [owner]}
    assert probes.start({"metadata": metadata, "spec": {"nodeName": "k3s-master"}}) == (expected, "k3s-master")


@pytest.mark.parametrize(
    "bad",
    [
        {"uid": "x/;1e id"}, {"uid": OWN + "\nrm"}, {"address": "10.42.0.1; id"}, {"address": "$(id)"},
        {"port": 0}, {"port": 70000}, {"protocol": "TCP; id"},
    ],
)  # fmt: skip
def test_a_probe_has_no_other_form_than_an_address_and_a_port(bad: dict[str, Any]) -> None:
    with pytest.raises(PlatformError):
        probes.Probe(**{"uid": OWN, "node": "k3s-master", "address": "10.42.0.1", "port": 80, **bad})
