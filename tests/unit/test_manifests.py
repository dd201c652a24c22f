"""What every workload of the platform has, whichever component it is of, and what manifests hold to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import platformlib as pl
from platformlib import composition
from platformlib.component import Component, packaged
from platformlib.components.prometheus.objects import scrape_timeout, share_of
from platformlib.components.rendering import CHECKSUM, WORKLOADS, objects_of, render
from platformlib.errors import BundleError, PlatformError
from platformlib.layers import layer
from platformlib.layers import render as render_layer
from platformlib.security import flows
from platformlib.security.connectivity import matches
from platformlib.settings import Settings
from platformlib.versions import image, versions

Object = dict[str, Any]
LAYERS = ("cluster", "storage", "observability")
PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]


def settings_with(**changes: Any) -> Settings:
    return pl.load(PARAMETERS | {"layers": list(LAYERS)} | changes)


def all_objects(settings: Settings) -> list[Object]:
    return [obj for name in LAYERS for obj in render_layer(layer(name), settings)]


OBJECTS = all_objects(settings_with())
PODS = [obj for obj in OBJECTS if obj["kind"] in WORKLOADS]


def named(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def containers(workload: Object) -> Iterator[tuple[str, Object, Object, bool]]:
    """name, container, pod spec, whether it is an init container."""
    spec = workload["spec"]["template"]["spec"]
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind, []):
            yield f"{workload['metadata']['name']}/{container['name']}", container, spec, kind == "initContainers"


def broken(container: Object, pod: Object, init: bool) -> Iterator[str]:
    own = pod.get("securityContext", {}) | container.get("securityContext", {})
    limits, requests = container["resources"].get("limits", {}), container["resources"].get("requests", {})
    probes = [
        {k: v for k, v in container.get(f"{kind}Probe", {}).items() if k in HOW} for kind in ("readiness", "liveness")
    ]
    rules = {
        "requests": {"cpu", "memory", "ephemeral-storage"} <= set(requests),
        "limits": {"memory", "ephemeral-storage"} <= set(limits),
        "probes": init or {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container),
        "distinct probes": init or not any(probes) or probes[0] != probes[1],
        "non-root": own.get("runAsNonRoot") is True and own.get("runAsUser", 0) > 10_000,
        "unprivileged": not own.get("privileged"),
        "read-only root": own.get("readOnlyRootFilesystem") is True,
        "no escalation": own.get("allowPrivilegeEscalation") is False,
        "no capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "seccomp": own.get("seccompProfile") == {"type": "RuntimeDefault"},
        "pinned": container["image"] in versions()["images"].values(),
    }
    yield from (rule for rule, holds in rules.items() if not holds)


HOW = ("httpGet", "tcpSocket", "exec", "grpc")
ROOMS = [each for each in packaged().values() if each.renders]
WHOLE = pl.load(PARAMETERS)


def workloads(one: Component) -> list[Object]:
    """Those of one component."""
    try:
        return [obj for obj in render([one], WHOLE) if obj["kind"] in WORKLOADS]
    except BundleError as error:
        pytest.skip(f"upstream's manifest is neither built nor reached: {error}")


@pytest.mark.parametrize("one", ROOMS, ids=lambda one: one.name)
def test_containers_hold_to_every_rule_but_the_declared_exceptions(one: Component) -> None:
    """An exception that is no longer needed fails as well."""
    found = {
        (name, rule)
        for workload in workloads(one)
        for name, container, pod, init in containers(workload)
        for rule in broken(container, pod, init)
    }
    assert found == {(each.container, rule) for each in one.exceptions for rule in each.rules}
    assert all(
        container["image"] in map(image, one.images) for w in workloads(one) for _, container, _, _ in containers(w)
    )


@pytest.mark.parametrize("one", ROOMS, ids=lambda one: one.name)
def test_a_pod_has_a_token_only_if_a_role_is_bound_to_its_account(one: Component) -> None:
    made = render([one], WHOLE)
    bound = {(s.get("namespace"), s["name"]) for obj in made if "roleRef" in obj for s in obj["subjects"]}
    for workload in workloads(one):
        spec = workload["spec"]["template"]["spec"]
        account = (workload["metadata"]["namespace"], spec["serviceAccountName"])
        assert spec.get("automountServiceAccountToken", True) is (account in bound), named(workload)


@pytest.mark.parametrize("one", ROOMS, ids=lambda one: one.name)
def test_a_pod_is_under_a_network_policy_of_its_own(one: Component) -> None:
    """But for pods on the machine's network, which no policy reaches, and namespaces that are open for a reason."""
    policies = [each for each in flows.objects(WHOLE) if each["metadata"]["name"] != "default-deny"]
    places = composition.namespaces(WHOLE)
    for workload in workloads(one):
        namespace, template = workload["metadata"]["namespace"], workload["spec"]["template"]
        own = [each for each in policies if each["metadata"]["namespace"] == namespace]
        over = any(matches(each["spec"]["podSelector"], template["metadata"]["labels"]) for each in own)
        assert over or template["spec"].get("hostNetwork") or places[namespace].open, named(workload)


def test_every_network_policy_matches_a_workload() -> None:
    every = [workload for one in ROOMS for workload in workloads(one)]
    for policy in flows.objects(WHOLE):
        metadata, spec = policy["metadata"], policy["spec"]
        if spec["podSelector"] and metadata["namespace"] in composition.namespaces(WHOLE):
            labels = [w["spec"]["template"]["metadata"]["labels"] for w in every
                      if w["metadata"]["namespace"] == metadata["namespace"]]  # fmt: skip
            assert any(matches(spec["podSelector"], each) for each in labels), metadata


@pytest.mark.parametrize("one", ROOMS, ids=lambda one: one.name)
def test_replicas_have_a_budget_and_are_spread(one: Component) -> None:
    budgets = [obj["spec"]["selector"] for obj in render([one], WHOLE) if obj["kind"] == "PodDisruptionBudget"]
    for workload in workloads(one):
        if workload["kind"] != "DaemonSet" and workload["spec"].get("replicas", 1) > 1:
            template = workload["spec"]["template"]
            assert any(matches(each, template["metadata"]["labels"]) for each in budgets), named(workload)
            spread = (
                template["spec"].get("topologySpreadConstraints") or template["spec"]["affinity"]["podAntiAffinity"]
            )
            assert spread, named(workload)


def test_the_image_of_volume_helpers_is_pinned() -> None:
    pins = set(versions()["images"].values())
    helper = next(obj for obj in OBJECTS if obj["metadata"]["name"] == "local-path-config")
    assert yaml.safe_load(helper["data"]["helperPod.yaml"])["spec"]["containers"][0]["image"] in pins


@pytest.mark.parametrize("mirror", [None, "http://192.168.1.1:5000"])
def test_a_mirror_changes_no_reference(mirror: str | None) -> None:
    assert all_objects(settings_with(registry={"mirror": mirror})) == OBJECTS


@pytest.mark.parametrize("name", LAYERS)
def test_namespaces_are_made_before_what_is_in_them(name: str) -> None:
    known = {"kube-system"}
    for obj in render_layer(layer(name), settings_with()):
        if obj["kind"] == "Namespace":
            known.add(obj["metadata"]["name"])
        assert obj["metadata"].get("namespace", "kube-system") in known, named(obj)


def test_one_text_for_each_object() -> None:
    names = [named(obj) for obj in OBJECTS]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("workload", PODS, ids=named)
def test_a_workload_selects_its_own_pods(workload: Object) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels["app.kubernetes.io/name"] == workload["metadata"]["name"]


@pytest.mark.parametrize("service", [obj for obj in OBJECTS if obj["kind"] == "Service"], ids=named)
def test_a_service_reaches_a_port_of_one_workload(service: Object) -> None:
    namespace, selector = service["metadata"]["namespace"], service["spec"]["selector"]
    reached = [
        workload
        for workload in PODS
        if workload["metadata"]["namespace"] == namespace
        and selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert len(reached) == 1
    ports = {port["name"] for _, container, _, _ in containers(reached[0]) for port in container.get("ports", [])}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("workload", PODS, ids=named)
def test_what_a_pod_mounts_and_runs_as_exists(workload: Object) -> None:
    namespace, spec = workload["metadata"]["namespace"], workload["spec"]["template"]["spec"]
    there = {(obj["kind"], obj["metadata"]["name"]) for obj in OBJECTS if obj["metadata"].get("namespace") == namespace}
    assert ("ServiceAccount", spec["serviceAccountName"]) in there
    configs = {volume["configMap"]["name"] for volume in spec.get("volumes", []) if "configMap" in volume}
    assert {("ConfigMap", name) for name in configs} <= there
    declared = {volume["name"] for volume in spec.get("volumes", [])}
    declared |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    mounted = (
        {mount["name"] for _, container, _, _ in containers(workload) for mount in container["volumeMounts"]}
        if (declared)
        else set()
    )
    assert mounted == declared


def roles() -> dict[tuple[str, str], list[Object]]:
    return {(obj["kind"], obj["metadata"]["name"]): obj["rules"] for obj in OBJECTS if "rules" in obj}


def test_bindings_join_what_exists() -> None:
    accounts = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in OBJECTS if obj["kind"] == "ServiceAccount"
    }
    builtin = {("ClusterRole", "system:auth-delegator"), ("Role", "extension-apiserver-authentication-reader")}
    for binding in (obj for obj in OBJECTS if "roleRef" in obj):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in {*roles(), *builtin}, named(binding)
        assert {(subject["namespace"], subject["name"]) for subject in binding["subjects"]} <= accounts, named(binding)


def test_no_role_reads_secrets_or_takes_everything() -> None:
    for name, rules in roles().items():
        for rule in rules:
            granted = [*rule.get("resources", []), *rule["verbs"], *rule.get("apiGroups", [])]
            assert "*" not in granted, name
            assert "secrets" not in granted, name


def test_kube_state_metrics_may_list_what_it_is_told_to() -> None:
    workload = next(obj for obj in PODS if obj["metadata"]["name"] == "kube-state-metrics")
    arguments = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    asked = next(arg for arg in arguments if arg.startswith("--resources=")).removeprefix("--resources=").split(",")
    allowed = [name for rule in roles()["ClusterRole", "kube-state-metrics"] for name in rule["resources"]]
    assert sorted(asked) == sorted(allowed)


def millicores(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else int(quantity) * 1000


def test_all_requests_leave_two_busy_cores_alone() -> None:
    nodes = len(PARAMETERS["cluster"]["nodes"])
    total = sum(
        millicores(container["resources"]["requests"]["cpu"]) * (nodes if workload["kind"] == "DaemonSet" else 1)
        for workload in PODS
        for _, container, _, init in containers(workload)
        if not init
    )
    assert total < 1000


CONFIGURED = {("prometheus", "retention"), ("loki", "retention")}


@pytest.mark.parametrize("component", ["prometheus", "loki"])
def test_a_changed_configuration_rolls_its_own_pods_only(component: str) -> None:
    changed = PARAMETERS["observability"] | {component: PARAMETERS["observability"][component] | {"retention": "9d"}}
    rolled = {
        new["metadata"]["name"]
        for old, new in zip(OBJECTS, all_objects(settings_with(observability=changed)), strict=True)
        if new["kind"] in WORKLOADS and old["spec"]["template"] != new["spec"]["template"]
    }
    assert rolled == {component}


def test_every_pod_with_a_configuration_carries_its_checksum() -> None:
    marked = {
        obj["metadata"]["name"]
        for obj in PODS
        if CHECKSUM in obj["spec"]["template"]["metadata"].get("annotations", {})
    }
    assert marked == {"kube-router", "local-path-provisioner", "prometheus", "loki", "promtail"}


BROUGHT = {  # what a distribution brings itself
    "kubeadm": set(),
    "k3s": {"kube-router", "local-path-provisioner", "metrics-server"},
    "existing": {"kube-router", "local-path-provisioner", "metrics-server"},
}


@pytest.mark.parametrize("distribution", BROUGHT)
def test_a_distribution_gets_what_it_does_not_bring(distribution: str) -> None:
    cluster = {
        "distribution": distribution,
        "nodes": PARAMETERS["cluster"]["nodes"],
        "kubeconfig": "~/.kube/config",
    } | ({"context": "home"} if distribution == "existing" else {})
    names = {obj["metadata"]["name"] for obj in all_objects(settings_with(cluster=cluster)) if obj["kind"] in WORKLOADS}
    assert names == {obj["metadata"]["name"] for obj in PODS} - BROUGHT[distribution]


def test_what_k3s_is_told_to_leave_out_is_installed() -> None:
    k3s = {"disable": ["local-storage", "metrics-server"]}
    cluster = {"distribution": "k3s", "nodes": PARAMETERS["cluster"]["nodes"], "k3s": k3s}
    names = {obj["metadata"]["name"] for obj in all_objects(settings_with(cluster=cluster)) if obj["kind"] in WORKLOADS}
    assert {"local-path-provisioner", "metrics-server"} <= names
    assert "kube-router" not in names


def test_an_unknown_name_in_a_manifest_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "service.yaml").write_text("kind: {{ settings.nonsense }}")
    one = Component(folder=tmp_path, layer="applications", name="toy", purpose="a fault")
    with pytest.raises(PlatformError, match=r"service\.yaml.*nonsense"):
        list(objects_of(one, settings_with()))


UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@given(st.integers(1, 10_000), st.sampled_from(sorted(UNITS)), st.floats(0.1, 1))
def test_a_share_of_a_quantity_is_never_more_than_it(number: int, unit: str, share: float) -> None:
    size = share_of(f"{number}{unit}", share)
    assert size.endswith("B")
    assert abs(int(size[:-1]) - number * UNITS[unit] * share) <= 1


@given(st.integers(1, 1000), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_scrape_never_lasts_longer_than_its_interval(number: int, unit: str) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    timeout = scrape_timeout(f"{number}{unit}")
    assert timeout in {f"{number}{unit}", "10s"}
    assert (timeout == "10s") == (number * seconds[unit] >= 10)
