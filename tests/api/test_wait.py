"""Waiting against real controllers, without nodes: pods stay as they are until a test writes their status."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from platformlib.errors import TerminalCondition, WaitTimeout
from platformlib.kube import Kube, Progress
from platformlib.kube import wait as waiting
from platformlib.kube.objects import Object
from tests.api.control_plane import ControlPlane, poll
from tests.api.objects import pick, realistic


@pytest.fixture
def deployment(kube: Kube, layer: str) -> Iterator[Object]:
    """A Deployment whose pod exists and is on no node."""
    objects = realistic(layer)
    found = pick(objects, "Deployment")
    needed = [pick(objects, kind) for kind in ("Namespace", "ServiceAccount", "ConfigMap")]
    kube.apply([*needed, found], layer=layer)
    poll(lambda: len(kube.list("v1", "Pod", layer)) == 1, timeout=20, what="the pod of the Deployment")
    yield found


def write_status(plane: ControlPlane, kube: Kube, namespace: str, status: dict[str, Any]) -> str:
    """The status that a kubelet or a scheduler would write; returns the pod's name."""
    (pod,) = kube.list("v1", "Pod", namespace)
    name = str(pod["metadata"]["name"])
    plane.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status}, manager="kubelet")
    return name


def container(state: dict[str, Any], restarts: int = 0, **last: Any) -> dict[str, Any]:
    found = {"name": "web", "image": "i", "imageID": "", "ready": False, "restartCount": restarts, "state": state}
    return {"containerStatuses": [{**found, "lastState": last}]}


def test_what_needs_no_node_becomes_ready(kube: Kube, layer: str) -> None:
    nodeless = [
        "Namespace", "ConfigMap", "Secret", "StorageClass", "PersistentVolumeClaim", "CustomResourceDefinition",
        "Widget", "DaemonSet", "ClusterRole", "Ingress", "PodDisruptionBudget",
    ]  # fmt: skip
    objects, told = [pick(realistic(layer), kind) for kind in nodeless], list[Progress]()
    kube.apply(objects, layer=layer)
    table = kube.wait(objects, timeout=20, on_event=told.append)
    assert list(table.columns) == ["kind", "namespace", "name", "ready", "seconds", "detail"]
    assert sorted(table["kind"]) == sorted(nodeless)
    assert table["ready"].all()
    assert (told[-1].done, told[-1].total) == (len(objects), len(objects))


def test_nothing_to_wait_for(kube: Kube) -> None:
    table = kube.wait([], timeout=1)
    assert table.empty
    assert "detail" in table


def test_the_deadline_names_the_last_cause(
    kube: Kube, layer: str, deployment: Object, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes fit"}
    pod = write_status(control_plane, kube, layer, {"conditions": [unscheduled]})
    about = {"kind": "Pod", "namespace": layer, "name": pod, "apiVersion": "v1"}
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "warned", "namespace": layer}, "type": "Warning",
        "reason": "FailedScheduling", "message": "no node has room", "involvedObject": about,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    kube.api.create(event)
    monkeypatch.setattr(waiting, "REPORT", 0.1)
    told: list[Progress] = []
    with pytest.raises(WaitTimeout) as late:
        kube.wait([deployment, {**deployment, "kind": "StatefulSet"}], timeout=3, on_event=told.append)
    for words in (f"Deployment {layer}/web: 0 of 1 available", "0/3 nodes fit", "FailedScheduling: no node has room"):
        assert words in str(late.value)
    assert f"StatefulSet {layer}/web: does not exist" in str(late.value)
    assert list(late.value.table["ready"]) == [False, False]
    assert len(told) >= 3
    assert "0/3 nodes fit" in str(told[-1])
    assert list(kube.events(layer, warnings=True)["reason"]) == ["FailedScheduling"]


def test_a_final_condition_ends_the_wait_early(
    kube: Kube, layer: str, deployment: Object, control_plane: ControlPlane
) -> None:
    bad = {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}}
    pod = write_status(control_plane, kube, layer, container(bad))
    with pytest.raises(TerminalCondition) as final:
        kube.wait([deployment], timeout=60)
    assert f"pod {pod}, container web: InvalidImageName: couldn't parse image name" in str(final.value)
    assert final.value.table["seconds"].max() < 30


def test_a_crash_loop_is_final_when_it_was_seen(
    kube: Kube, layer: str, deployment: Object, control_plane: ControlPlane
) -> None:
    """The container crashes once more while it is waited for."""
    loop, ended = {"waiting": {"reason": "CrashLoopBackOff"}}, {"exitCode": 2, "message": "no such flag"}
    restarts = iter(range(9, 99))

    def crash(_: Progress) -> None:
        write_status(control_plane, kube, layer, container(loop, next(restarts), terminated=ended))

    crash(Progress("", 0, 0, 0, ""))
    with pytest.raises(
        TerminalCondition, match=re.escape("10 restarts; last ended with Error (exit code 2) no such flag")
    ):
        kube.wait([deployment], timeout=60, on_event=crash)


def test_a_quota_is_named(kube: Kube, layer: str) -> None:
    objects = realistic(layer)
    quota = deepcopy(pick(objects, "ResourceQuota"))
    quota["spec"]["hard"] = {"pods": "0"}
    base = pick(objects, "StatefulSet")
    kube.apply([pick(objects, "Namespace"), quota], layer=layer)
    kube.wait([quota], timeout=10)
    kube.apply([pick(objects, "Namespace"), quota, base], layer=layer)
    with pytest.raises(WaitTimeout, match="exceeded quota"):
        kube.wait([base], timeout=4)
