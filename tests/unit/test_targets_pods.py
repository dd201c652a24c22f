"""What a pod's explanation says, and that every fix leads there."""

from typing import Any

import pandas as pd
import pytest

from platformlib.errors import KubeError
from platformlib.targets import pods
from platformlib.targets.pods import Pods

WAITING = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "web:nope": not found'}
KILLED = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-23T12:14:05Z"}


def pod(namespace: str, name: str, **status: Any) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": f"{name}-rs"}
    container = {"name": "app", "image": "web:nope", "resources": {"limits": {"memory": "64Mi"}}}
    own = {"name": "app", "ready": False, "restartCount": 0, "state": {}} | status
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-11-23T12:00:00Z",
                     "ownerReferences": [owner]},
        "spec": {"nodeName": "n1", "containers": [container]},
        "status": {"phase": "Running" if status.get("ready") else "Pending", "containerStatuses": [own]},
    }  # fmt: skip


class Cluster:
    """Stands for a Kube: pods, a ReplicaSet, events, and the last lines of a container."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.pods = list(found)

    def list(self, _: str, __: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return [one for one in self.pods if namespace in {None, one["metadata"]["namespace"]}]

    def get(self, __: str, ___: str, name: str, *_: str) -> dict[str, Any]:
        owner = {"kind": "Deployment", "name": "web"}
        return {"metadata": {"name": name, "creationTimestamp": "2026-11-23T11:59:00Z", "ownerReferences": [owner]}}

    def events(self, *_: str, **__: bool) -> pd.DataFrame:
        time = pd.Timestamp("2026-11-23T12:14:06", tz="UTC")
        row = {"time": time, "reason": "Failed", "name": "web-1", "count": 4, "message": "no such image"}
        return pd.DataFrame([row, row | {"name": "another"}])

    def logs(self, *_: str, previous: bool, **__: int) -> str:
        if not previous:
            raise KubeError("the container waits to start")
        return "allocating\nout of memory\n"


def explained(*found: dict[str, Any], name: str = "web-1") -> dict[str, str]:
    table = Pods(Cluster(*found)).explain(name)  # type: ignore[arg-type]
    return dict(table.itertuples(index=False, name=None))


def test_a_wrong_image_is_explained_with_its_cause_owner_and_warnings() -> None:
    found = explained(pod("shop", "web-1", state={"waiting": WAITING}))
    assert found["state"] == "Pending, ImagePullBackOff, 0/1 ready"
    assert "not found" in found["cause"]
    assert found["owner"] == "Deployment web"
    assert found["rolled out"] == "2026-11-23T11:59:00Z"
    assert found["app: image"] == "web:nope"
    assert found["warning 12:14:06"] == "Failed: no such image (4 times)"
    assert found["app: last lines"] == "none: the container waits to start"


def test_a_kill_is_explained_with_its_limit_and_the_lines_before_it() -> None:
    found = explained(pod("shop", "web-1", restartCount=3, ready=True, lastState={"terminated": KILLED}))
    assert found["app: limits"] == "memory 64Mi"
    assert found["app: ended"] == "2026-11-23T12:14:05Z OOMKilled, exit code 137"
    assert found["app: last lines"] == "allocating\nout of memory"


def test_a_name_in_two_namespaces_has_to_be_told_apart() -> None:
    both = pod("shop", "web-1"), pod("bank", "web-1")
    with pytest.raises(KubeError, match="one of: shop/web-1, bank/web-1"):
        explained(*both)
    assert explained(*both, name="bank/web-1")["node"] == "n1"
    with pytest.raises(KubeError, match="one of: web-1"):
        explained(pod("shop", "web-1"), name="wbe-1")


def test_pods_in_trouble_are_listed_with_their_cause() -> None:
    cluster: Any = Cluster(pod("shop", "web-1", state={"waiting": WAITING}), pod("shop", "web-2", ready=True))
    found = Pods(cluster).troubled()
    assert list(found["pod"]) == ["web-1"]
    assert "not found" in found["cause"].iloc[0]
    assert Pods(Cluster()).troubled().attrs["empty"]  # type: ignore[arg-type]


def test_every_fix_is_a_call_of_this_product() -> None:
    cluster: Any = Cluster(pod("shop", "web-1", state={"waiting": WAITING}, restartCount=9))
    failed = [result for result in pods.checks(Pods(cluster).table(), 5) if not result.ok]
    assert [result.fix for result in failed] == ['target.pods.explain("shop/web-1")'] * 2
