"""What the security layer leaves to Kubernetes' own admission, and the CEL of its policies, on a real API server."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import platformlib as pl
from platformlib.errors import ApiError, KubeError
from platformlib.kube import Kube
from platformlib.kube.objects import Reference
from platformlib.layers import layer as layer_named
from platformlib.layers import render
from platformlib.security import examples, quotas, rbac
from platformlib.security.declared import data, quota
from tests.api.control_plane import TOKEN, ControlPlane, poll

Object = dict[str, Any]
PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]
SETTINGS = pl.load(PARAMETERS)
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
NOW = "2026-11-24T10:00:00Z"
ADMISSION = "admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def rendered() -> list[Object]:
    return render(layer_named("security"), SETTINGS)


# The operator.


class Person:
    """Somebody of the given groups, by impersonation."""

    def __init__(self, plane: ControlPlane, *groups: str) -> None:
        headers = [("Authorization", f"Bearer {TOKEN}"), ("Impersonate-User", "somebody")]
        headers += [("Impersonate-Group", group) for group in (*groups, "system:authenticated")]
        self.server, self.headers = plane.server, headers

    def patch(self, path: str, body: Object, content: str = STRATEGIC, **params: str) -> str:
        """The words of a refusal; empty when it was accepted."""
        answer = httpx.patch(
            self.server + path, content=json.dumps(body), headers=[*self.headers, ("Content-Type", content)],
            params={"dryRun": "All", **params}, verify=False,  # noqa: S501  loopback
        )  # fmt: skip
        return "" if answer.is_success else str(answer.json()["message"])

    def is_held(self, path: str, body: Object) -> bool:
        return "operator-" in self.patch(path, body)


@pytest.fixture(scope="module")
def operator(kube: Kube, control_plane: ControlPlane, rendered: list[Object]) -> Iterator[Person]:
    """The role platform-operator and its policies, in force; and two others who may patch workloads."""
    names = ("platform-operator", "operator-restarts-only", "operator-cordons-only")
    ours = [each for each in rendered if each["metadata"]["name"] in names]
    assert {each["kind"] for each in ours} == {
        "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip
    kube.apply([*ours, *bound("patcher", ["patch"]), *bound("editor", ["patch", "update"])], layer="test-operator")
    kube.apply([space("workloads"), *WORKLOADS.values(), NODE], layer="test-workloads")
    person, forbidden = Person(control_plane, "platform:operators"), {"metadata": {"labels": {"a": "b"}}}
    for path in (path_of(WORKLOADS["Deployment"]), "/api/v1/nodes/machine"):
        poll(partial(person.is_held, path, forbidden), timeout=30, what=f"a refusal of {path}")
    yield person
    kube.uninstall("test-workloads")
    kube.uninstall("test-operator")


def space(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def bound(group: str, verbs: list[str]) -> list[Object]:
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", *verbs]}]
    role = {"apiGroup": rbac.API, "kind": "ClusterRole", "name": group}
    subjects = [{"kind": "Group", "name": group, "apiGroup": rbac.API}]
    return [
        {"apiVersion": f"{rbac.API}/v1", "kind": "ClusterRole", "metadata": {"name": group}, "rules": rules},
        {"apiVersion": f"{rbac.API}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": group},
         "roleRef": role, "subjects": subjects},
    ]  # fmt: skip


def workload(kind: str) -> Object:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels, "annotations": {"kept": "yes"}},
                "spec": {"containers": [{"name": "main", "image": "a/b:1"}]}}  # fmt: skip
    spec = {"selector": {"matchLabels": labels}, "template": template}
    spec |= {} if kind == "DaemonSet" else {"replicas": 1}
    spec |= {"serviceName": "x"} if kind == "StatefulSet" else {}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x", "namespace": "workloads"}, "spec": spec}


WORKLOADS = {kind: workload(kind) for kind in ("Deployment", "StatefulSet", "DaemonSet")}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "machine"}, "spec": {"podCIDR": "10.42.0.0/24"}}


def path_of(obj: Object) -> str:
    return f"/apis/apps/v1/namespaces/workloads/{obj['kind'].lower()}s/x"


def template(**change: Any) -> Object:
    return {"spec": {"template": change}}


def annotated(**annotations: str | None) -> Object:
    return template(metadata={"annotations": annotations})


RESTART = annotated(**{rbac.RESTARTED: NOW})
REFUSED = {
    "another image": template(spec={"containers": [{"name": "main", "image": "evil/image:1"}]}),
    "another account": template(spec={"serviceAccountName": "powerful"}),
    "another container": template(spec={"containers": [{"name": "more", "image": "a/b:1"}]}),
    "the host's network": template(spec={"hostNetwork": True}),
    "a restart and an image": {
        "spec": {"template": {**RESTART["spec"]["template"], **template(spec={"hostPID": True})["spec"]["template"]}}
    },
    "a label of the pods": template(metadata={"labels": {"more": "x"}}),
    "a finalizer of the pods": template(metadata={"finalizers": ["x.example/y"]}),
    "another annotation of the pods": annotated(other="x"),
    "an annotation taken away": annotated(kept=None),
    "a restart at no time": annotated(**{rbac.RESTARTED: "$(id)"}),
    "a label": {"metadata": {"labels": {"a": "b"}}},
    "an annotation": {"metadata": {"annotations": {"a": "b"}}},
    "a finalizer": {"metadata": {"finalizers": ["x.example/y"]}},
    "an owner": {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}]}},
    "the number of revisions": {"spec": {"revisionHistoryLimit": 1}},
}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_an_operator_restarts_a_workload_and_changes_nothing_else_of_it(operator: Person, kind: str) -> None:
    path = path_of(WORKLOADS[kind])
    assert operator.patch(path, RESTART) == ""
    for name, body in REFUSED.items():
        assert "operator-restarts-only" in operator.patch(path, body), name


def test_an_operator_scales_by_the_subresource_alone(operator: Person) -> None:
    for kind in ("Deployment", "StatefulSet"):
        path, scaled = path_of(WORKLOADS[kind]), {"spec": {"replicas": 3}}
        assert operator.patch(f"{path}/scale", scaled, "application/merge-patch+json") == ""
        assert "operator-restarts-only" in operator.patch(path, scaled)


def test_server_side_apply_is_held_as_well(operator: Person) -> None:
    whole = workload("Deployment")
    whole["spec"]["template"]["spec"]["containers"][0]["image"] = "evil/image:1"
    said = operator.patch(path_of(whole), whole, APPLY, fieldManager="operator", force="true")
    assert "operator-restarts-only" in said


def test_an_operator_cordons_a_node_and_changes_nothing_else_of_it(operator: Person) -> None:
    path = "/api/v1/nodes/machine"
    assert operator.patch(path, {"spec": {"unschedulable": True}}) == ""
    assert operator.patch(path, {"spec": {"unschedulable": None}}) == ""
    for body in (
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
        {"spec": {"unschedulable": True, "taints": [{"key": "a", "effect": "NoExecute"}]}},
    ):
        assert "operator-cordons-only" in operator.patch(path, body), body


@pytest.mark.parametrize("groups", [["patcher"], ["editor"], ["platform:operators", "editor"], ["system:masters"]])
def test_nobody_else_is_held(operator: Person, control_plane: ControlPlane, groups: list[str]) -> None:
    other = Person(control_plane, *groups)
    assert other.patch(path_of(WORKLOADS["Deployment"]), REFUSED["another image"]) == ""


# Quotas and limits.


def bare(name: str, namespace: str, **resources: Any) -> Object:
    pod = examples.merged(
        examples.pod(name, namespace), {"spec": {"containers": [{"name": "main", "resources": None}]}}
    )
    pod["spec"]["containers"][0] |= {"resources": resources} if resources else {}
    return dict(pod)


def test_a_pod_that_requests_one_core_is_admitted_and_not_limited(kube: Kube, layer: str) -> None:
    small = quota(SETTINGS, "small")
    bounds = [
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "platform", "namespace": layer},
         "spec": {"hard": quotas.hard(small)}},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "platform", "namespace": layer},
         "spec": {"limits": quotas.limits(small)}},
    ]  # fmt: skip
    kube.apply([space(layer), *bounds], layer=layer)
    accounts = Reference("v1", "ServiceAccount", layer, "default")
    poll(lambda: kube.api.get(accounts) is not None, timeout=30, what="the default service account")
    poll(
        lambda: bool((kube.get("v1", "ResourceQuota", "platform", layer) or {}).get("status", {}).get("used")),
        timeout=30, what="the quota's first count",
    )  # fmt: skip

    def created(pod: Object) -> Object:
        made: Object = kube.api.call("POST", Reference("v1", "Pod", layer, ""), body=pod, dryRun="All").json()
        return dict(made["spec"]["containers"][0]["resources"])

    core = created(bare("core", layer, requests={"cpu": "1"}))
    assert core["requests"]["cpu"] == "1" and "cpu" not in core["limits"]
    assert created(bare("nothing", layer)) == {
        "requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"},
    }  # fmt: skip
    with pytest.raises(ApiError, match="exceeded quota: platform"):
        created(bare("cores", layer, requests={"cpu": "3"}))
    with pytest.raises(ApiError, match="maximum memory usage per Container"):
        created(bare("much", layer, limits={"memory": "3Gi"}))


# The CEL of Kyverno's policies, as the API server itself evaluates it.

JUDGED = {"judged": "true"}
EXAMPLES = {rule: given for rule, given in data("examples").items() if given["layer"] == "policy"}


@pytest.fixture(scope="module")
def judge(kube: Kube, rendered: list[Object]) -> Iterator[Callable[[str], None]]:
    """Every ValidatingPolicy as a policy of Kubernetes, for namespaces labelled `judged`; a call labels one."""
    made = [each for policy in rendered if policy["kind"] == "ValidatingPolicy" for each in native(policy)]
    assert len(made) == 2 * 8
    kube.apply(made, layer="test-policies")

    def label(name: str) -> None:
        """Returns once every policy judges the namespace."""
        kube.apply([space(name, **JUDGED)], layer=f"test-{name}")
        for rule, given in EXAMPLES.items():
            bad = examples.merged(examples.pod("bad", name), given["refuse"])
            poll(partial(judged, kube, bad, rule), timeout=30, what=f"{rule} in force")

    yield label
    kube.uninstall("test-policies")


def native(policy: Object) -> list[Object]:
    name, spec = f"test-{policy['metadata']['name']}", policy["spec"]
    kept = ("failurePolicy", "matchConstraints", "matchConditions", "variables", "validations")
    binding = {
        "policyName": name, "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": JUDGED}},
    }  # fmt: skip
    return [
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
         "spec": {key: spec[key] for key in kept if key in spec}},
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
         "spec": binding},
    ]  # fmt: skip


def judged(kube: Kube, bad: Object, rule: str) -> bool:
    return f"test-{rule}" in words(kube, bad)


def words(kube: Kube, obj: Object) -> str:
    try:
        kube.api.call("POST", Reference("v1", "Pod", obj["metadata"]["namespace"], ""), body=obj, dryRun="All")
    except KubeError as error:
        return str(error)
    return ""


def latest(name: str, namespace: str) -> Object:
    changed = {"spec": {"containers": [{"name": "main", "image": "docker.io/library/busybox:latest"}]}}
    return dict(examples.merged(examples.pod(name, namespace), changed))


@pytest.fixture
def place(kube: Kube, layer: str) -> str:
    """A namespace in which pods can be made; it goes with the control plane."""
    kube.apply([space(layer)], layer=f"test-{layer}")
    accounts = Reference("v1", "ServiceAccount", layer, "default")
    poll(lambda: kube.api.get(accounts) is not None, timeout=30, what="the default service account")
    return layer


def test_each_policy_refuses_its_example_alone(kube: Kube, judge: Callable[[str], None], place: str) -> None:
    judge(place)
    for rule, given in EXAMPLES.items():
        good = examples.merged(examples.pod("good", place), given.get("accept") or {})
        bad = examples.merged(examples.pod("bad", place), given["refuse"])
        assert words(kube, good) == "", rule
        said, message = words(kube, bad), given["words"].partition("failed: ")[2]
        assert f"test-{rule}" in said and message in said, rule


def test_a_pod_from_before_the_policies_can_change_its_metadata_and_end(
    kube: Kube, judge: Callable[[str], None], place: str
) -> None:
    old = examples.merged(latest("old", place), {"metadata": {"labels": None, "finalizers": ["x.example/hold"]}})
    old["spec"]["containers"][0]["resources"] = {}
    old["spec"]["automountServiceAccountToken"] = True
    kube.api.create(old)
    ref = Reference("v1", "Pod", place, "old")
    judge(place)

    def patch(body: Object, **options: Any) -> None:
        kube.api.call("PATCH", ref, body=body, content=STRATEGIC, **options)

    patch({"metadata": {"annotations": {"seen": "by a controller"}}})
    patch({"metadata": {"labels": {"any": "label"}}})
    patch({"status": {"phase": "Failed"}}, subresource="status")
    with pytest.raises(ApiError, match="ValidatingAdmissionPolicy 'test-"):
        patch({"spec": {"containers": [{"name": "main", "image": "docker.io/library/other:latest"}]}})
    kube.api.delete(ref)
    patch({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.example/hold"]}})
    poll(lambda: kube.api.get(ref) is None, timeout=10, what="the old pod's end")


def test_a_pod_may_not_lose_the_label_by_which_policies_select_it(
    kube: Kube, judge: Callable[[str], None], place: str
) -> None:
    judge(place)
    kube.api.create(examples.pod("named", place))
    with pytest.raises(ApiError, match="test-require-labels"):
        kube.api.call(
            "PATCH", Reference("v1", "Pod", place, "named"), content="application/merge-patch+json",
            body={"metadata": {"labels": {"app.kubernetes.io/name": None}}},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"image": "docker.io/library/busybox:1.37"}, ""),
        ({"image": "docker.io/library/busybox:latest"}, "needs a tag"),
        ({"image": "evil.example/busybox:1.37"}, "known registry"),
        ({"image": "docker.io/library/busybox:1.37", "securityContext": {"privileged": True}}, "privileged"),
    ],
)
def test_a_debug_container_keeps_the_rules(
    kube: Kube, judge: Callable[[str], None], place: str, container: Object, message: str
) -> None:
    judge(place)
    kube.api.create(examples.pod("debugged", place))
    body = {"spec": {"ephemeralContainers": [{"name": "debug", **container}]}}
    ref, said = Reference("v1", "Pod", place, "debugged"), ""
    try:
        kube.api.call("PATCH", ref, subresource="ephemeralcontainers", body=body, content=STRATEGIC, dryRun="All")
    except ApiError as error:
        said = str(error)
    assert message in said and bool(said) is bool(message)
