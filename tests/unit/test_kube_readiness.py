"""Readiness as a table: an object, the cluster around it, whether it is ready, and what is said of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from platformlib.kube.objects import Object, Objects, Reference
from platformlib.kube.readiness import RULES, assess
from platformlib.kube.wait import FailureTracker
from platformlib.kube.workloads import CRASHES, Failure, latest, matches


class Around:
    """The cluster around an object, as plain lists."""

    def __init__(self, *objects: Object) -> None:
        self.objects = objects

    def list(self, api_version: str, kind: str, namespace: str = "") -> Objects:  # noqa: ARG002
        """The objects of a kind; all are in one namespace."""
        return [obj for obj in self.objects if (obj["apiVersion"], obj["kind"]) == (api_version, kind)]


def make(api_version: str, kind: str, spec: Any = None, status: Any = None, **metadata: Any) -> Object:
    """An object of the generation 2."""
    head = {"name": "it", "namespace": "ns", "generation": 2} | metadata
    return {"apiVersion": api_version, "kind": kind, "metadata": head, "spec": spec or {}, "status": status or {}}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, **more}]}


SELECTOR = {"matchLabels": {"app": "it"}}


def deployment(updated: int, available: int, total: int, seen: int = 2, **status: Any) -> Object:
    counts = {"updatedReplicas": updated, "availableReplicas": available, "replicas": total, "observedGeneration": seen}
    return make("apps/v1", "Deployment", {"replicas": 2, "selector": SELECTOR}, counts | status)


def stateful(updated: int, available: int, **spec: Any) -> Object:
    status = {"updatedReplicas": updated, "availableReplicas": available, "replicas": 3, "observedGeneration": 2}
    return make("apps/v1", "StatefulSet", {"replicas": 3, "selector": SELECTOR} | spec, status)


def daemon(wanted: int, updated: int, available: int, seen: int = 2) -> Object:
    status = {
        "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": available,
        "observedGeneration": seen,
    }  # fmt: skip
    return make("apps/v1", "DaemonSet", {"selector": SELECTOR}, status)


def pod(state: dict[str, Any] | None = None, restarts: int = 0, last: Any = None, **status: Any) -> Object:
    container = {"name": "c", "ready": False, "restartCount": restarts, "state": state or {}, "lastState": last or {}}
    labels = {"app": "it", "pod-template-hash": "new"}
    return make("v1", "Pod", status={"phase": "Pending", "containerStatuses": [container]} | status, labels=labels)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def event(reason: str, message: str, kind: str) -> Object:
    about = {"kind": kind, "name": "it", "namespace": "ns"}
    body = {
        "reason": reason,
        "message": message,
        "involvedObject": about,
        "lastTimestamp": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),  # recent when a slow suite asks, too
    }
    return make("v1", "Event") | body


def endpoints(*ready: bool | None) -> Object:
    found = [{"conditions": {} if each is None else {"ready": each}} for each in ready]
    labels = {"kubernetes.io/service-name": "it"}
    return make("discovery.k8s.io/v1", "EndpointSlice", labels=labels) | {"endpoints": found}


def storage_class(mode: str) -> Object:
    return make("storage.k8s.io/v1", "StorageClass", name="local-path") | {"volumeBindingMode": mode}


CLAIM = make("v1", "PersistentVolumeClaim", {"storageClassName": "local-path"}, {"phase": "Pending"})
CONSUMER = make("v1", "Pod", {"volumes": [{"persistentVolumeClaim": {"claimName": "it"}}]})
HOOK = {"name": "h", "clientConfig": {"service": {"namespace": "ns", "name": "it"}, "caBundle": "Q0E="}}
HOOKS = make("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration") | {"webhooks": [HOOK]}
NO_CA = {**HOOKS, "webhooks": [{**HOOK, "clientConfig": {"service": HOOK["clientConfig"]["service"]}}]}  # type: ignore[index]
CRD, SERVICE = (
    make("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    make("v1", "Service", {"selector": {"a": "b"}}),
)

TABLE: list[tuple[Object | None, tuple[Object, ...], bool, str]] = [
    (None, (), False, "does not exist"),
    (make("v1", "ConfigMap"), (), True, "exists"),
    (make("v1", "ConfigMap", deletionTimestamp="now"), (), False, "is being deleted"),
    (deployment(2, 2, 2), (), True, "2 of 2 available"),
    (deployment(2, 2, 2, seen=1), (), False, "generation 2 is not yet observed"),
    (make("apps/v1", "Deployment", {}, {}), (), False, "generation 2 is not yet observed (last: None)"),
    (deployment(1, 2, 3), (), False, "1 of 2 updated"),
    (deployment(2, 2, 3), (), False, "1 old replicas"),
    (deployment(2, 1, 2), (), False, "1 of 2 available"),
    (make("apps/v1", "Deployment", {"replicas": 0}, {"observedGeneration": 2}), (), True, "0 of 0"),
    (stateful(3, 3), (), True, "3 of 3"),
    (stateful(2, 3), (), False, "2 of 3 updated"),
    (stateful(1, 3, updateStrategy={"rollingUpdate": {"partition": 2}}), (), True, "3 of 3"),
    (stateful(0, 3, updateStrategy={"type": "OnDelete"}), (), True, "3 of 3"),
    (stateful(3, 2), (), False, "2 of 3 available"),
    (daemon(3, 3, 3), (), True, "3 of 3"),
    (daemon(3, 2, 3), (), False, "2 of 3 updated"),
    (daemon(0, 0, 0, seen=0), (), False, "not yet observed"),
    (make("batch/v1", "Job", status=condition("Complete")), (), True, "0 active"),
    (make("batch/v1", "Job", status=condition("Failed", reason="BackoffLimitExceeded")), (), False, "BackoffLimit"),
    (make("batch/v1", "Job", {"selector": SELECTOR}, {"active": 1}), (), False, "1 active"),
    (make("v1", "Pod", status={"phase": "Running"} | condition("Ready")), (), True, "Running"),
    (make("v1", "Pod", status={"phase": "Running"} | condition("Ready", "False")), (), False, "Running"),
    (make("v1", "Pod", status={"phase": "Succeeded"}), (), True, "Succeeded"),
    (CLAIM, (storage_class("WaitForFirstConsumer"),), True, "waits for its first consumer"),
    (CLAIM, (storage_class("WaitForFirstConsumer"), CONSUMER), False, "in use"),
    (CLAIM, (storage_class("Immediate"),), False, "Pending, class local-path"),
    (CLAIM, (), False, "Pending, class local-path"),
    (CLAIM | {"status": {"phase": "Bound"}, "spec": {"volumeName": "pv-1"}}, (), True, "Bound to pv-1"),
    (make("v1", "Service"), (), True, "has no selector"),
    (SERVICE, (), False, "0 ready endpoints"),
    (SERVICE, (endpoints(True, False, None),), True, "2 ready endpoints"),
    (SERVICE, (endpoints(False),), False, "0 ready endpoints"),
    (make("v1", "Namespace", status={"phase": "Active"}), (), True, "Active"),
    (make("v1", "Namespace", status={"phase": "Terminating"}), (), False, "Terminating"),
    (make("v1", "Node", status=condition("Ready")), (), True, "Ready=True"),
    (make("v1", "Node", status=condition("Ready", "Unknown", reason="NodeUnknown")), (), False, "NodeUnknown"),
    (CRD, (), False, "no condition Established"),
    (CRD | {"status": condition("Established")}, (), True, "Established=True"),
    (make("apiregistration.k8s.io/v1", "APIService", status=condition("Available", "False", message="no endpoints")),
     (), False, "no endpoints"),
    (make("apiregistration.k8s.io/v1", "APIService", status=condition("Available")), (), True, "Available=True"),
    (HOOKS, (endpoints(True),), True, "answer"),
    (HOOKS, (), False, "ns/it has no ready endpoint"),
    (NO_CA, (endpoints(True),), False, "no caBundle"),
    (make("argoproj.io/v1", "Rollout", status=condition("Available", "False")), (), False, "Available=False"),
    (make("argoproj.io/v1", "Rollout", status=condition("Ready")), (), True, "Ready=True"),
    (make("x.io/v1", "Thing", status={"observedGeneration": 1} | condition("Ready")), (), False, "not yet observed"),
    # A kind of the same name in another group has no rule.
    (make("serving.knative.dev/v1", "Service", {"selector": {"a": "b"}}), (), True, "exists"),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "around", "ready", "detail"), TABLE)
def test_readiness(obj: Object | None, around: tuple[Object, ...], ready: bool, detail: str) -> None:
    found = assess(obj, Around(*around))
    assert found.ready is ready
    assert detail in found.detail


def test_every_rule_has_a_ready_and_an_unready_row() -> None:
    """Persistent volumes share the rule of namespaces, mutating webhooks that of validating ones."""
    rows = {(obj["apiVersion"].rpartition("/")[0], obj["kind"], ready) for obj, _, ready, _ in TABLE if obj}
    like = {"PersistentVolume", "MutatingWebhookConfiguration"}
    missing = [rule for rule in RULES if rule[1] not in like and not {(*rule, True), (*rule, False)} <= rows]
    assert missing == []


STARVED = deployment(2, 0, 2)
CAUSES: list[tuple[Object, tuple[Object, ...], str, float | None]] = [
    (STARVED, (pod(waiting("ImagePullBackOff", 'Back-off pulling image "no:1"')),), 'pulling image "no:1"', 60.0),
    (STARVED, (pod(waiting("ErrImageNeverPull")),), "container c: ErrImageNeverPull", 15.0),
    (STARVED, (pod(waiting("InvalidImageName", "couldn't parse")),), "couldn't parse", 0.0),
    (STARVED, (pod(waiting("CreateContainerConfigError", 'secret "s" not found')),), 'secret "s" not found', 60.0),
    (STARVED, (pod(waiting("ContainerCreating")),), "", None),
    (STARVED, (pod(**condition("PodScheduled", "False", message="0/3 nodes are available")),), "0/3 nodes", None),
    (STARVED, (pod(waiting("ImagePullBackOff")) | {"metadata": {"name": "p", "labels": {"app": "other"}}},), "", None),
    (deployment(2, 0, 2, **condition("Progressing", "False", reason="ProgressDeadlineExceeded")), (), "Progress", 60.0),
    (deployment(0, 0, 0, **condition("ReplicaFailure", reason="FailedCreate", message="exceeded quota")),
     (), "exceeded quota", 30.0),
    (daemon(3, 0, 0), (event("FailedCreate", "pods are forbidden", "DaemonSet"),), "pods are forbidden", 30.0),
    (daemon(3, 0, 0), (event("FailedCreate", "pods are forbidden", "ReplicaSet"),), "", None),
    (make("batch/v1", "Job", {"selector": SELECTOR}, condition("Failed", reason="DeadlineExceeded")),
     (), "DeadlineExceeded", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "around", "words", "grace"), CAUSES)
def test_causes(obj: Object, around: tuple[Object, ...], words: str, grace: float | None) -> None:
    failure = assess(obj, Around(*around)).failure
    assert words in failure.detail if failure else words == ""
    assert (failure.grace if failure else None) == grace


def test_a_crash_tells_its_last_words() -> None:
    ended = {"terminated": {"reason": "Error", "exitCode": 3, "message": "no such file\n"}}
    failure = assess(STARVED, Around(pod(waiting("CrashLoopBackOff"), restarts=2, last=ended))).failure
    assert failure is not None
    assert failure.crashing
    assert failure.detail == "pod it, container c: 2 restarts; last ended with Error (exit code 3) no such file"


def test_pods_of_an_older_template_are_no_cause() -> None:
    old, new = pod(waiting("ImagePullBackOff")), pod(waiting("ContainerCreating"))
    old["metadata"] |= {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "it", "pod-template-hash": "old"},
    }
    new["metadata"] |= {"creationTimestamp": "2026-01-02T00:00:00Z"}
    assert assess(STARVED, Around(old, new)).failure is None
    assert latest([old, new]) == [new]
    assert latest([]) == []


REF = Reference("apps/v1", "Deployment", "ns", "it")


def crash(restarts: int) -> Failure:
    return Failure("crash", "", None, "p", "c", restarts, crashing=True)


@pytest.mark.parametrize(
    ("seen", "final"),
    [
        # (seconds, failure) of each poll, and whether the last is final
        ([(0, Failure("stuck", "a", 60))], False),
        ([(0, Failure("stuck", "a", 0))], True),
        ([(0, Failure("stuck", "ErrImagePull", 60)), (59, Failure("stuck", "ImagePullBackOff", 60))], False),
        ([(0, Failure("stuck", "ErrImagePull", 60)), (60, Failure("stuck", "ImagePullBackOff", 60))], True),
        ([(0, Failure("stuck", "a", 60)), (30, None), (61, Failure("stuck", "a", 60))], False),
        ([(0, Failure("Unschedulable", "a")), (9999, Failure("Unschedulable", "a"))], False),
        ([(0, crash(1)), (60, crash(CRASHES - 1))], False),
        ([(0, crash(1)), (60, crash(CRASHES))], True),
        ([(0, crash(90)), (60, crash(90))], False),
        ([(0, crash(90)), (50, None), (60, crash(91))], True),
    ],
)
def test_when_a_trouble_is_final(seen: list[tuple[float, Failure | None]], final: bool) -> None:
    failures = FailureTracker()
    assert [failures.final(REF, failure, now) for now, failure in seen][-1] is final


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (None, False),
        ({}, False),
        ({"matchLabels": {"app": "it"}}, True),
        ({"matchLabels": {"app": "other"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["it"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["it"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "it"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, chosen: bool) -> None:
    assert matches(selector, {"app": "it"}) is chosen
