"""A handle that may not write sends no write, whoever asks; what counts as a write is a table."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import AppsV1Api, CoreV1Api
from kubernetes.stream import stream

from platformlib.errors import DryRunRefused
from platformlib.kube import Kube, Reference, identity, inventory
from platformlib.kube.session import is_write
from tests.unit.kube_fakes import FakePool, MemoryServer, Sent, config_map, connect, kubeconfig

ACCESS, TOKENS = "/apis/authorization.k8s.io/v1", "/apis/authentication.k8s.io/v1"
SERVICE = "/api/v1/namespaces/observability/services/prometheus:9090/proxy"
POD = "/api/v1/namespaces/shop/pods/web"
DRY = {"dryRun": "All"}


@pytest.mark.parametrize(
    ("method", "path", "params", "write"),
    [
        ("GET", "/api/v1/namespaces/shop/configmaps", {}, False),
        ("HEAD", "/readyz", {}, False),
        ("GET", f"{POD}/log", {}, False),
        ("GET", "/api/v1/namespaces/shop/configmaps/exec", {}, False),
        ("POST", "/api/v1/namespaces", {}, True),
        ("POST", "/api/v1/namespaces", DRY, False),
        ("POST", "/api/v1/namespaces", {"dryRun": "all"}, True),
        ("PATCH", "/api/v1/namespaces/shop", {}, True),
        ("PATCH", "/api/v1/namespaces/shop", DRY, False),
        ("PUT", "/api/v1/namespaces/shop/finalize", {}, True),
        ("DELETE", "/api/v1/namespaces/shop", {}, True),
        ("DELETE", "/api/v1/namespaces/shop", DRY, False),
        ("OPTIONS", "/api/v1/namespaces", {}, True),
        # Reviews store nothing, and a token request makes a credential.
        ("POST", f"{ACCESS}/selfsubjectaccessreviews", {}, False),
        ("POST", f"{ACCESS}/subjectaccessreviews", {}, False),
        ("POST", f"{ACCESS}/selfsubjectrulesreviews", {}, False),
        ("POST", f"{ACCESS}/namespaces/shop/localsubjectaccessreviews", {}, False),
        ("POST", f"{TOKENS}/tokenreviews", {}, False),
        ("POST", f"{TOKENS}/selfsubjectreviews", {}, False),
        ("POST", "/api/v1/namespaces/shop/serviceaccounts/web/token", {}, True),
        ("POST", "/apis/authorization.k8s.io.evil.io/v1/subjectaccessreviews", {}, True),
        # What happens in a pod is not known, whatever the method, and no dry run reaches it.
        ("GET", f"{POD}/exec", {}, True),
        ("POST", f"{POD}/exec", DRY, True),
        ("GET", f"{POD}/attach", {}, True),
        ("GET", f"{POD}/portforward", {}, True),
        ("GET", f"{POD}/proxy/", DRY, True),
        ("GET", "/api/v1/nodes/worker1/proxy/stats/summary", {}, True),
        ("POST", f"{POD}/eviction", {}, True),
        ("POST", f"{POD}/eviction", DRY, False),
        # Services: reads, and questions that are too long for a URL.
        ("GET", SERVICE, {}, False),
        ("GET", f"{SERVICE}/api/v1/query", {}, False),
        ("POST", f"{SERVICE}/api/v1/query_range", {}, False),
        ("POST", f"{SERVICE}/loki/api/v1/query_range", {}, False),
        ("POST", f"{SERVICE}/loki/api/v1/push", {}, True),
        ("POST", f"{SERVICE}/api/v1/admin/tsdb/delete_series", DRY, True),
        ("POST", f"{SERVICE}/-/reload", DRY, True),
        ("POST", f"{SERVICE}/api/v1/query/../admin/tsdb/delete_series", {}, True),
        ("POST", f"{SERVICE}/api/v1/query/%2e%2e/admin/tsdb/delete_series", {}, True),
        ("DELETE", f"{SERVICE}/api/v1/query", {}, True),
    ],
)
def test_what_is_a_write(method: str, path: str, params: dict[str, str], write: bool) -> None:
    assert is_write(method, path, params) is write


RECORDED = '["v1", "ConfigMap", "shop", "old"]\n["v1", "ConfigMap", "shop", "web"]'
HOME = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}


def cluster() -> MemoryServer:
    """Two objects of the layer shop, its inventory, a pod, and the mark of the platform home, of an older version."""
    return MemoryServer(
        config_map("web", layer="shop", data={"a": "1"}),
        config_map("old", layer="shop"),
        config_map("platformlib-layer-shop", "kube-system", layer="shop", data={"references": RECORDED}),
        config_map("platformlib", "kube-system", data={"name": "home"}),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}},
        HOME,
    )


NEW: Any = config_map("new", data={"b": "2"})
REF = Reference("v1", "ConfigMap", "shop", "web")
READS: dict[str, Callable[[Kube], Any]] = {
    "version": lambda kube: kube.version(),
    "get": lambda kube: kube.get("v1", "ConfigMap", "web", "shop"),
    "list": lambda kube: kube.list("v1", "ConfigMap", "shop"),
    "diff": lambda kube: kube.diff([NEW], layer="shop"),
    "wait": lambda kube: kube.wait([config_map("web")], timeout=0),
    "inventory": lambda kube: kube.inventory("shop"),
    "service": lambda kube: kube.service("shop", "web", 80),
    "identity": lambda kube: kube.identity(),
    "require": lambda kube: kube.require("home", "k3s"),
    "logs": lambda kube: kube.logs("shop", "web"),
    "events": lambda kube: kube.events("shop"),
    "can": lambda kube: kube.can("get", "pods"),
}
WRITES: dict[str, Callable[[Kube], Any]] = {
    "apply": lambda kube: kube.apply([NEW], layer="shop"),
    "prune": lambda kube: kube.prune("shop", [config_map("web")]),
    "uninstall": lambda kube: kube.uninstall("shop", delete_data=["shop/data", "shop"]),
    "delete": lambda kube: kube.delete(config_map("web")),
    "claim": lambda kube: kube.claim("home", "k3s"),
    "release": lambda kube: kube.release("home"),
    "lock": lambda kube: kube.lock("home").__enter__(),
}
BELOW: dict[str, Callable[[Kube], Any]] = {
    "api.apply": lambda kube: kube.api.apply(NEW, force=True),
    "api.create": lambda kube: kube.api.create(NEW),
    "api.delete": lambda kube: kube.api.delete(REF),
    "api.call PUT": lambda kube: kube.api.call("PUT", REF, body=NEW),
    "api.call POST": lambda kube: kube.api.call("POST", REF, subresource="eviction", body={}),
    "retried": lambda kube: kube.api.with_retry_timeout(1).delete(REF),
    "unguarded": lambda kube: kube.api.with_guards(()).delete(REF),
    "request": lambda kube: kube.api.session.request("POST", "/api/v1/namespaces", body={}),
    "inventory.record": lambda kube: inventory.record(kube.api, "shop", [Reference("v1", "ConfigMap", "shop", "x")]),
    "inventory.forget": lambda kube: inventory.forget(kube.api, "shop", [REF]),
    "identity.claim": lambda kube: identity.claim(kube.api, "home", "k3s"),
    "official create": lambda kube: CoreV1Api(kube.api_client).create_namespaced_config_map("shop", NEW),
    "official patch": lambda kube: CoreV1Api(kube.api_client).patch_namespaced_config_map("web", "shop", {}),
    "official delete": lambda kube: CoreV1Api(kube.api_client).delete_namespaced_config_map("web", "shop"),
    "official scale": lambda kube: AppsV1Api(kube.api_client).patch_namespaced_deployment_scale("web", "shop", {}),
    "official exec": lambda kube: stream(
        CoreV1Api(kube.api_client).connect_get_namespaced_pod_exec, "web", "shop", command=["true"]
    ),
    "official call_api": lambda kube: kube.api_client.call_api("DELETE", f"{kube.server}/api/v1/namespaces/shop"),
}


def test_every_verb_is_known_here() -> None:
    """A new verb is a read or a write, and stands in one of the tables."""
    verbs = {name for name, _ in inspect.getmembers(Kube, inspect.isfunction) if not name.startswith("_")}
    assert verbs == READS.keys() | WRITES.keys()


@pytest.fixture
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Kube, FakePool, MemoryServer]]:
    """A handle, what it sends, and the server."""
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path / "state"))

    def make(*, dry_run: bool) -> tuple[Kube, FakePool, MemoryServer]:
        server = cluster()
        kube = connect(kubeconfig(tmp_path, {"token": "t"}), server, dry_run=dry_run)
        pool = kube.api.session.connection.pool
        assert isinstance(pool, FakePool)
        return kube, pool, server

    return make


@pytest.mark.parametrize("name", [*READS, *WRITES, *BELOW])
def test_a_dry_handle_sends_no_write(connected: Callable[..., Any], name: str) -> None:
    kube, pool, server = connected(dry_run=True)
    before = deepcopy(server.objects)
    assert kube.dry_run
    try:
        (READS | WRITES | BELOW)[name](kube)
    except DryRunRefused as refused:
        assert name in {"delete", *BELOW}, "the verbs that have a table say what they would do"
        assert "was not sent" in str(refused)
    assert [sent for sent in pool.sent if is_change(sent)] == []
    assert server.objects == before


# A websocket needs a server: tests/api.
@pytest.mark.parametrize("name", [name for name in [*WRITES, *BELOW] if name != "official exec"])
def test_the_same_verbs_write_on_another_handle(connected: Callable[..., Any], name: str) -> None:
    """Without this, the test above could not fail."""
    kube, pool, _ = connected(dry_run=False)
    (WRITES | BELOW)[name](kube)
    assert [sent for sent in pool.sent if is_change(sent)]


def is_change(sent: Sent) -> bool:
    """The test's own judgement."""
    return not (sent.method == "GET" or sent.params.get("dryRun") == "All" or sent.path.endswith("accessreviews"))


def test_a_dry_handle_says_what_it_would_do(connected: Callable[..., Any]) -> None:
    kube, _, _ = connected(dry_run=True)
    assert list(kube.apply([NEW], layer="shop")["action"]) == ["created"]
    pruned = kube.prune("shop", [config_map("web")])
    assert pruned.to_dict("records") == [
        {"kind": "ConfigMap", "namespace": "shop", "name": "old", "action": "would delete"}
    ]
    assert list(kube.uninstall("shop")["action"]) == ["would delete"] * 2
    assert kube.release("home")
