"""Every way of a kubeconfig into a real API server."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import dynamic, watch
from kubernetes import stream as websockets
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from platformlib.errors import ApiError, DryRunRefused, KubeError, WrongCluster
from platformlib.kube import Kube
from tests.api.control_plane import POWERLESS, TOKEN, ControlPlane, poll
from tests.api.objects import pick, realistic

# The package has no types for these.
DynamicClient: Any = dynamic.DynamicClient
Watch: Any = watch.Watch
stream: Any = websockets.stream


@pytest.fixture
def connect(control_plane: ControlPlane, tmp_path: Path) -> Callable[..., Kube]:
    """Connect as a user, with settings of the cluster's entry."""
    return lambda user, **cluster: Kube.connect(
        control_plane.write_kubeconfig(tmp_path / "kubeconfig", user, **cluster)
    )


def plugin(folder: Path, status: dict[str, Any]) -> dict[str, Any]:
    """An exec plugin that gives this credential."""
    api = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": api, "kind": "ExecCredential", "status": status}
    (folder / "credential").write_text(json.dumps(credential))
    return {"exec": {"apiVersion": api, "command": "cat", "args": [str(folder / "credential")]}}


def test_credentials(connect: Callable[..., Kube], control_plane: ControlPlane, tmp_path: Path) -> None:
    at = control_plane.folder
    pem = {"clientCertificateData": (at / "admin.crt").read_text(), "clientKeyData": (at / "admin.key").read_text()}
    users = {
        "data": {name: control_plane.encoded(file) for name, file in
                 (("client-certificate-data", "admin.crt"), ("client-key-data", "admin.key"))},
        "files": {"client-certificate": str(at / "admin.crt"), "client-key": str(at / "admin.key")},
        "token": {"token": TOKEN},
        "exec token": plugin(tmp_path, {"token": TOKEN}),
    }  # fmt: skip
    for name, user in users.items():
        assert connect(user).get("v1", "Namespace", "kube-system"), name
    assert connect(plugin(tmp_path, pem)).get("v1", "Namespace", "kube-system")


def test_no_key_is_left_in_a_file(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kube = Kube.connect(control_plane.kubeconfig)
    assert kube.version().startswith("v1.")
    assert list(tmp_path.rglob("*")) == []


def test_another_clusters_authority_is_refused(connect: Callable[..., Kube], control_plane: ControlPlane) -> None:
    other = base64.b64encode((control_plane.folder / "admin.crt").read_bytes()).decode()
    with pytest.raises(KubeError, match="is it another cluster's"):
        connect({"token": TOKEN}, **{"certificate-authority-data": other}).version()


@pytest.mark.parametrize(("name", "accepted"), [("localhost", True), ("other.test", False)])
def test_the_servers_name_is_checked(connect: Callable[..., Kube], name: str, accepted: bool) -> None:
    kube = connect({"token": TOKEN}, **{"tls-server-name": name})
    if accepted:
        assert kube.version()
    else:
        with pytest.raises(KubeError, match=r"other\.test"):
            kube.version()


def test_a_user_without_rights_is_told_which(connect: Callable[..., Kube], kube: Kube, layer: str) -> None:
    powerless = connect({"token": POWERLESS})
    with pytest.raises(KubeError, match="powerless") as refused:
        powerless.apply([pick(realistic(layer), "Namespace")], layer=layer)
    assert "bind it to a role" in refused.value.fix
    assert POWERLESS not in str(refused.value)
    assert kube.get("v1", "Namespace", layer) is None
    assert kube.can("create", "deployments.apps", "default")
    assert not powerless.can("create", "deployments.apps", "default")


def test_a_wrong_token_is_refused(connect: Callable[..., Kube]) -> None:
    with pytest.raises(ApiError, match="renew them") as refused:
        connect({"token": "wrong"}).list("v1", "Node")
    assert refused.value.status == 401


@pytest.mark.parametrize("how", ["certificate", "token"])
def test_the_service_proxy_is_reached(
    connect: Callable[..., Kube], control_plane: ControlPlane, kube: Kube, layer: str, how: str
) -> None:
    """There is no pod to answer: the API server says so, after it has accepted the credentials."""
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "Service")]
    kube.apply(objects, layer=layer)
    poll(lambda: kube.get("v1", "Endpoints", "web", layer) is not None, timeout=30, what="the Endpoints of the Service")
    route = (kube if how == "certificate" else connect({"token": TOKEN})).service(layer, "web", 80)
    with httpx.Client(verify=route.ssl_context(), trust_env=False) as client:
        answer = client.get(f"{route.base_url}/metrics", headers=route.headers())
    assert (answer.status_code, answer.json()["reason"]) == (503, "ServiceUnavailable")
    assert "no endpoints available" in answer.json()["message"]


def test_the_official_package_speaks_through_the_same_handle(
    connect: Callable[..., Kube], control_plane: ControlPlane, layer: str
) -> None:
    """Code that people have: typed, dynamic, watching, by websocket; with a token and with a certificate."""
    files = {"client-certificate-data": "admin.crt", "client-key-data": "admin.key"}
    certificate = {name: control_plane.encoded(file) for name, file in files.items()}
    for space, user in ((f"{layer}-token", {"token": TOKEN}), (f"{layer}-certificate", certificate)):
        kube = connect(user)
        core: Any = CoreV1Api(kube.api_client)
        assert "kube-system" in {each.metadata.name for each in core.list_namespace().items}
        core.create_namespace({"metadata": {"name": space}})
        assert next(Watch().stream(core.list_namespace, timeout_seconds=5))["type"] == "ADDED"
        maps = DynamicClient(kube.api_client).resources.get(api_version="v1", kind="ConfigMap")
        maps.create(body={"metadata": {"name": "web"}}, namespace=space)
        assert kube.get("v1", "ConfigMap", "web", space)
        with pytest.raises(ApiException, match="404"):  # authenticated; there is no such pod
            stream(core.connect_get_namespaced_pod_exec, "none", space, command=["true"])


def test_the_official_package_is_held_to_dry_run_and_identity(
    control_plane: ControlPlane, kube: Kube, layer: str
) -> None:
    dry = Kube.connect(control_plane.kubeconfig, dry_run=True)
    core: Any = CoreV1Api(dry.api_client)
    body = {"metadata": {"name": layer}}
    assert core.list_namespace().items
    assert core.create_namespace(body, dry_run="All").metadata.name == layer
    writes: tuple[Callable[[], Any], ...] = (
        lambda: core.create_namespace(body), lambda: core.delete_namespace("default"),
        lambda: stream(core.connect_get_namespaced_pod_exec, "none", "default", command=["true"]),
        lambda: DynamicClient(dry.api_client).resources.get(api_version="v1", kind="Namespace").create(body=body),
    )  # fmt: skip
    for write in writes:
        with pytest.raises(DryRunRefused):
            write()
    armed = Kube.connect(control_plane.kubeconfig)
    client: Any = CoreV1Api(armed.api_client)
    armed.require("nobodys", "k3s")
    with pytest.raises(WrongCluster):
        client.create_namespace(body)
    assert client.list_namespace().items
    assert kube.get("v1", "Namespace", layer) is None


def test_reading(kube: Kube, layer: str) -> None:
    assert kube.get("v1", "ConfigMap", "none", "kube-system") is None
    assert {"default", "kube-system"} <= {obj["metadata"]["name"] for obj in kube.list("v1", "Namespace")}
    kube.apply([pick(realistic(layer), "Namespace"), pick(realistic(layer), "ConfigMap")], layer=layer)
    mine = kube.list("v1", "ConfigMap", label_selector=f"platformlib.io/layer={layer}")
    assert [obj["metadata"]["name"] for obj in mine] == [f"platformlib-layer-{layer}", "web"]
    events = kube.events(layer)
    assert events.empty
    assert str(events["time"].dt.tz) == "UTC"
