"""What is declared about security is whole, fits together, and turns into objects that say the same."""

import re
from typing import TYPE_CHECKING, Any, cast

import pytest

import platformlib as pl
from platformlib import composition
from platformlib.component import packaged
from platformlib.components.rendering import objects_of
from platformlib.errors import PlatformError, SettingsError
from platformlib.security import access, examples, flows, pod_security, quotas, rbac
from platformlib.security.connectivity import Pod, Rules, matches
from platformlib.security.declared import data, namespaces, schedulable
from platformlib.security.observe import observed
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.kube import Kube

RAW: dict[str, Any] = {
    "name": "test",
    "cluster": {
        "distribution": "kubeadm",
        "nodes": [{"name": "a", "address": "192.168.1.11", "role": "control-plane"}],
    },
    "security": {
        "applications": [
            {
                "name": "shop", "size": "small", "port": 9000,
                "flows": [
                    {"application": "billing", "ports": [5432]},
                    {"component": "loki", "ports": [3100], "pods": "web"},
                    {"addresses": ["203.0.113.0/24", "198.51.100.7"], "ports": [443, "53/UDP"]},
                ],
            },
            {"name": "billing", "internal_traffic": False},
        ]
    },
}  # fmt: skip
EXISTING = RAW | {"cluster": {"distribution": "existing", "kubeconfig": "~/.kube/config", "context": "there"}}


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


def policies(settings: Settings) -> Rules:
    labels = {each.name: {"kubernetes.io/metadata.name": each.name} for each in namespaces(settings)}
    return Rules(labels, tuple(flows.objects(settings)))


def pod(namespace: str, app: str, address: str = "10.42.0.9", **extra: Any) -> Pod:
    key = "k8s-app" if app == "kube-dns" else "app.kubernetes.io/name"
    return Pod(namespace, app, {key: app}, address, **extra)


def everyone(settings: Settings) -> list[Pod]:
    ends = {(end.namespace, end.app or "any") for flow in flows.flows(settings) for end in (flow.source, flow.to)}
    return [pod(namespace, app) for namespace, app in sorted(ends) if namespace]


def test_the_rendered_policies_let_through_what_the_table_says_and_nothing_else(settings: Settings) -> None:
    """The table is read here by itself; the policies by the engine. kube-system is open by declaration."""
    rules, opened = policies(settings), flows.flows(settings)
    closed = {each.name for each in namespaces(settings) if each.default_deny}
    ports = {port for flow in opened for port in flow.ports}

    def at(end: flows.End, one: Pod) -> bool:
        return end.namespace == one.namespace and (not end.app or end.app == one.name)

    for source in everyone(settings):
        for to in everyone(settings):
            for port in ports if source != to else ():
                ways = [flow for flow in opened if port in flow.ports or not flow.ports]
                declared = any(at(flow.source, source) and at(flow.to, to) for flow in ways)
                out, into = source.namespace not in closed or declared, to.namespace not in closed or declared
                assert rules.verdict(source, to, *port).passes is (out and into), f"{source} → {to}:{port}"


def test_the_api_server_reaches_kyverno_and_an_unknown_pod_does_not(settings: Settings) -> None:
    rules = policies(settings)
    machine = Pod("kube-system", "kube-apiserver", {}, "192.168.1.11", "a", host=True)
    stranger = pod("shop", "stranger")
    kyverno = pod("kyverno", "kyverno-admission-controller", node="b")
    assert rules.verdict(machine, kyverno, 9443).passes
    assert not rules.verdict(machine, kyverno, 8000).passes
    assert not rules.verdict(stranger, kyverno, 9443).passes
    assert rules.verdict(stranger, pod("kube-system", "kube-dns"), 53, "UDP").passes


def test_no_rendered_policy_has_rules_of_both_directions(settings: Settings) -> None:
    for policy in flows.objects(settings):
        assert not ("ingress" in policy["spec"] and "egress" in policy["spec"]), policy["metadata"]


def test_an_application_is_reached_on_its_own_port(settings: Settings) -> None:
    table = flows.table(settings)
    row = table[(table["flow"] == "ingress") & (table["to"] == "shop/*")]
    assert list(row["ports"]) in (["9000/TCP"], [])  # traefik's namespace is kube-system, which is there
    assert len(row) == 1


def test_pods_of_an_application_talk_to_each_other_unless_it_says_no(settings: Settings) -> None:
    rules = policies(settings)
    assert rules.verdict(pod("shop", "web"), pod("shop", "cart"), 12345).passes
    assert not rules.verdict(pod("billing", "web"), pod("billing", "db"), 5432).passes


def test_an_application_reaches_what_it_declares_and_nothing_else(settings: Settings) -> None:
    rules, bank, loki = policies(settings), pod("billing", "db"), pod("observability", "loki")

    def outside(address: str) -> Pod:
        return Pod("outside", "x", {}, address, host=True)

    assert rules.verdict(pod("shop", "web"), bank, 5432).passes
    assert not rules.verdict(pod("shop", "web"), bank, 5433).passes
    assert not rules.verdict(bank, pod("shop", "web"), 5432).passes
    assert rules.verdict(pod("shop", "web"), loki, 3100).passes
    assert not rules.verdict(pod("shop", "cart"), loki, 3100).passes, "the flow is declared for the pods `web`"
    assert rules.verdict(pod("shop", "web"), outside("203.0.113.9"), 443).passes
    assert rules.verdict(pod("shop", "web"), outside("198.51.100.7"), 53, "UDP").passes
    assert not rules.verdict(pod("shop", "web"), outside("203.0.113.9"), 80).passes
    assert not rules.verdict(pod("shop", "web"), outside("198.51.100.8"), 443).passes


def test_a_flow_to_everywhere_leaves_the_cluster_out() -> None:
    everywhere = {"name": "shop", "flows": [{"addresses": ["0.0.0.0/0"], "ports": [443]}]}
    rules = policies(changed(applications=[everywhere]))
    assert rules.verdict(pod("shop", "web"), Pod("outside", "x", {}, "203.0.113.9", host=True), 443).passes
    assert not rules.verdict(pod("shop", "web"), pod("kube-system", "other"), 443).passes


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ({"ports": [443]}, "exactly one of application, component, addresses"),
        ({"application": "shop2", "component": "kyverno", "ports": [1]}, "exactly one of"),
        ({"application": "nobody", "ports": [443]}, "security.applications.0.flows.0.application: nobody"),
        ({"application": "shop", "ports": [443]}, "see internal_traffic"),
        ({"addresses": ["10.42.3.0/24"], "ports": [443]}, "is of cluster.network.pods"),
        ({"addresses": ["somewhere"], "ports": [443]}, "security.applications.0.flows.0.addresses.0"),
        ({"addresses": ["203.0.113.0/24"], "ports": []}, "flows.0.ports"),
        ({"addresses": ["203.0.113.0/24"], "ports": [0]}, "a port of 1 to 65535"),
        ({"addresses": ["203.0.113.0/24"], "ports": ["443/ICMP"]}, "flows.0.ports.0"),
        ({"component": "observability/loki", "ports": [3100]}, "flows.0.component"),
    ],
)
def test_a_flow_that_means_nothing_is_refused(flow: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        changed(applications=[{"name": "shop", "flows": [flow]}])


def test_a_flow_to_a_component_that_is_not_there_is_refused() -> None:
    lost = changed(applications=[{"name": "shop", "flows": [{"component": "nothing", "ports": [443]}]}])
    with pytest.raises(PlatformError, match="nothing"):
        flows.objects(lost)


@pytest.mark.parametrize("name", ["kyverno", "observability", "kube-system", "default"])
def test_an_application_cannot_take_a_namespace_of_the_platform(name: str) -> None:
    with pytest.raises(PlatformError, match=name):
        namespaces(changed(applications=[{"name": name}]))


def test_two_applications_cannot_share_a_namespace() -> None:
    with pytest.raises(SettingsError, match=r"security\.applications\.1\.name"):
        changed(applications=[{"name": "shop"}, {"name": "shop"}])


KEY = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("signed", "address", "port"),
    [
        ({"images": "registry.example/team/*"}, "203.0.113.9", 443),
        ({"images": "registry.example:5000/team/*"}, "203.0.113.9", 5000),
        ({"images": "192.168.1.1:5000/team/*"}, "192.168.1.1", 5000),
        ({"images": "registry.example/*", "addresses": ["10.9.0.0/16"]}, "10.9.1.1", 443),
    ],
)
def test_verifying_signatures_reaches_their_registry_and_nothing_more(
    signed: dict[str, Any], address: str, port: int
) -> None:
    rules = policies(changed(policies={"signatures": {"public_key": KEY, **signed}}))
    registry, elsewhere = (Pod("outside", "x", {}, each, host=True) for each in (address, "10.8.0.1"))
    verifier = pod("kyverno", "kyverno-admission-controller")
    assert rules.verdict(verifier, registry, port).passes
    assert not rules.verdict(verifier, elsewhere, port).passes
    assert not rules.verdict(verifier, registry, 22).passes


def test_without_signatures_kyverno_reaches_no_registry(settings: Settings) -> None:
    outside = Pod("outside", "x", {}, "203.0.113.9", host=True)
    assert not policies(settings).verdict(pod("kyverno", "kyverno-admission-controller"), outside, 443).passes


# A cluster that others installed.


class Api:
    """As much of a connection as reading a cluster takes."""

    def __init__(self, nodes: list[dict[str, Any]], slices: list[dict[str, Any]]) -> None:
        self.kinds = {"Node": nodes, "EndpointSlice": slices}

    def list(self, _: str, kind: str, *__: str) -> list[dict[str, Any]]:
        return self.kinds[kind]


def node(address: str, *, pods: str = "", **spec: Any) -> dict[str, Any]:
    addresses = [{"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": address}]
    return {"spec": {**({"podCIDR": pods} if pods else {}), **spec}, "status": {"addresses": addresses}}


SLICE = {"endpoints": [{"addresses": ["172.31.0.2"]}], "ports": [{"name": "https", "port": 443}]}
TAINTED: dict[str, Any] = {"taints": [{"key": "x", "effect": "NoSchedule"}]}


def seen(nodes: list[dict[str, Any]], slices: list[dict[str, Any]], **cluster: Any) -> Settings:
    raw = EXISTING | {"cluster": EXISTING["cluster"] | cluster}
    return observed(pl.load(raw), cast("Kube", Api(nodes, slices)))


def test_nodes_and_api_server_of_an_existing_cluster_are_read_from_it() -> None:
    found = seen([node("10.1.0.4", pods="10.244.1.0/24"), node("10.1.0.5", **TAINTED)], [SLICE])
    rules, kyverno = policies(found), pod("kyverno", "kyverno-admission-controller", node="b")

    def at(address: str) -> Pod:
        return Pod("outside", "x", {}, address, host=True)

    assert rules.verdict(kyverno, at("172.31.0.2"), 443).passes, "the API server, at its own address and port"
    assert not rules.verdict(kyverno, at("10.1.0.4"), 6443).passes
    assert all(rules.verdict(at(each), kyverno, 9443).passes for each in ("10.1.0.4", "10.244.1.1", "172.31.0.2"))
    assert not rules.verdict(at("192.168.1.11"), kyverno, 9443).passes, "the default range is no longer assumed"
    assert schedulable(found) == 1


def test_a_declared_range_that_holds_every_node_stays_so_that_a_new_node_is_covered() -> None:
    found = seen([node("10.1.0.4"), node("10.1.7.5")], [SLICE], network={"nodes": "10.1.0.0/16"})
    assert "10.1.0.0/16" in flows.nodes(found) and "10.1.0.4/32" not in flows.nodes(found)


def test_what_the_parameters_say_of_an_existing_cluster_is_not_asked_again() -> None:
    given = {"nodes": ["10.7.0.0/16"], "api": ["10.7.0.1"], "api_port": 8443, "schedulable": 5}
    found = seen([], [], observed=given)
    assert flows.nodes(found) == ("10.7.0.0/16",) and schedulable(found) == 5


@pytest.mark.parametrize(
    ("nodes", "slices"),
    [([], [SLICE]), ([node("10.1.0.4")], []), ([node("x; rm -rf /")], [SLICE]), ([node("10.1.0.4")], [{"ports": []}])],
)
def test_a_cluster_that_does_not_show_its_addresses_is_refused(nodes: list[Any], slices: list[Any]) -> None:
    with pytest.raises(PlatformError, match=r"cluster\.observed"):
        seen(nodes, slices)


def test_policies_audit_on_an_existing_cluster_unless_they_are_told_to_enforce() -> None:
    assert pl.load(EXISTING).security.policies.mode == "audit"
    assert pl.load(RAW).security.policies.mode == "enforce"
    enforcing = EXISTING | {"security": {"policies": {"mode": "enforce"}}}
    assert pl.load(enforcing).security.policies.mode == "enforce"
    again = pl.load(EXISTING).model_dump(mode="json")
    assert pl.load(again) == pl.load(EXISTING)


ADMISSION = "kyverno-admission-controller"


@pytest.mark.parametrize(
    ("distribution", "roles", "replicas"),
    [
        ("kubeadm", ["control-plane"], 1),
        ("kubeadm", ["control-plane", "worker"], 1),
        ("kubeadm", ["control-plane", "worker", "worker"], 2),
        ("k3s", ["control-plane", "worker", "worker"], 3),
        ("k3s", ["control-plane", *["worker"] * 6], 3),
    ],
)
def test_kyverno_has_as_many_replicas_as_the_nodes_allow(distribution: str, roles: list[str], replicas: int) -> None:
    nodes = [{"name": f"n{n}", "address": f"192.168.1.{n + 10}", "role": role} for n, role in enumerate(roles)]
    own = pl.load(RAW | {"cluster": {"distribution": distribution, "nodes": nodes}})
    objects = list(objects_of(packaged()["kyverno"], own))
    found = {o["metadata"]["name"]: o["spec"]["replicas"] for o in objects if o["kind"] == "Deployment"}
    assert found.pop(ADMISSION) == replicas
    assert set(found.values()) == {1}
    budgets = [each for each in objects if each["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == (replicas > 1)
    for budget in budgets:
        labels = next(o for o in objects if o["metadata"]["name"] == ADMISSION and o["kind"] == "Deployment")
        assert matches(budget["spec"]["selector"], labels["spec"]["template"]["metadata"]["labels"])
        assert budget["spec"]["maxUnavailable"] == 1, "a drain always goes on"


def test_a_tainted_machine_is_not_counted() -> None:
    taint = ["dedicated=storage:NoSchedule"]
    nodes = [{"name": "a", "address": "192.168.1.11", "role": "control-plane", "taints": taint},
             {"name": "b", "address": "192.168.1.12"}]  # fmt: skip
    assert schedulable(pl.load(RAW | {"cluster": {"distribution": "k3s", "nodes": nodes}})) == 1


def test_node_exporter_is_reached_by_prometheus_alone(settings: Settings) -> None:
    """The host's network, on which no NetworkPolicy holds, is not where it listens."""
    workload = next(o for o in objects_of(packaged()["node-exporter"], settings) if o["kind"] == "DaemonSet")
    spec = workload["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    rules, exporter = policies(settings), pod("node-agents", "node-exporter", node="b")
    assert rules.verdict(pod("observability", "prometheus"), exporter, 9100).passes
    for other in (
        pod("shop", "web"),
        pod("observability", "loki"),
        pod("kube-system", "any"),
        pod("default", "any"),
        Pod("lan", "x", {}, "192.168.1.50", host=True),
        Pod("node", "x", {}, "192.168.1.11", "a", host=True),
    ):
        assert not rules.verdict(other, exporter, 9100).passes, other


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


def started(name: str, owner: str = "", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    kind, _, of = owner.partition("/")
    owners = [{"apiVersion": "apps/v1", "kind": kind, "name": of, "controller": True}] if owner else []
    about = {"name": name, "namespace": "kube-system", "labels": labels or {}, "ownerReferences": owners}
    return {"metadata": about, "spec": {"containers": [{"name": "main"}], **spec}}


class ListsPods:
    def __init__(self, *pods: dict[str, Any]) -> None:
        self.of = {"Pod": list(pods), "Namespace": [{"metadata": {"name": "kube-system"}}]}

    def list(self, _: str, kind: str) -> "list[dict[str, Any]]":
        return self.of[kind]


@pytest.mark.parametrize(
    ("owner", "name", "allowed"),
    [
        ("DaemonSet/svclb-traefik-898c78ef", "svclb-traefik-898c78ef-2lwvb", True),
        ("ReplicaSet/local-path-provisioner-595dcfc56f", "local-path-provisioner-595dcfc56f-kh4p9", True),
        ("", "helper-pod-create-pvc-1b2c", True),
        ("ReplicaSet/traefik-865bd56545", "traefik-865bd56545-b5qkm", True),
        ("ReplicaSet/debug-5d8f", "svclb-traefik-898c78ef-2lwvb", False),
        ("", "svclb-traefik-898c78ef-2lwvb", False),
        ("Job/helper-pod-x", "helper-pod-x-1", False),
    ],
)
def test_what_k3s_packages_is_known_by_what_started_it(owner: str, name: str, allowed: bool) -> None:
    """Names and labels of a pod are of its author's choice; only k3s's own controllers are expected in kube-system."""
    settings = pl.load(RAW | {"cluster": {"distribution": "k3s", "nodes": RAW["cluster"]["nodes"]}})
    labels = {"app": "svclb-traefik-898c78ef"}
    kube = cast("Kube", ListsPods(started(name, owner, labels, hostNetwork=True)))
    assert list(pod_security.pods(kube, settings)["allowed"]) == [allowed]


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


def test_no_default_limits_the_cpu(settings: Settings) -> None:
    """Kubernetes takes `max` as the default limit where there is none."""
    ranges = [limit for each in quotas.objects(settings) for limit in each["spec"].get("limits", [])]
    made = [limit for limits in quotas.bounds_of_sizes(settings)["limits"].values() for limit in cast("Any", limits)]
    assert ranges and made
    assert not any("cpu" in limit[key] for limit in (*ranges, *made) for key in ("default", "max"))


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
    good = examples.pod("x", "y")
    assert list(pod_security.faults(good["spec"])) == []
    assert list(pod_security.faults(examples.merged(good, FAULTS[fault])["spec"])) == [fault]


def test_every_example_differs_from_the_good_pod() -> None:
    for rule, each in data("examples").items():
        good = examples.pod("x", "y")
        assert examples.merged(good, each["refuse"]) != good, rule
        assert each["words"], rule


@pytest.mark.parametrize(
    ("rule", "risk"),
    [
        ({"verbs": ["*"], "resources": ["configmaps"]}, "every verb"),
        ({"verbs": ["patch"], "resources": ["deployments"]}, "deployments"),
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
