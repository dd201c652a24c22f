"""A handle that must be a platform's writes to no other cluster; a lost lease stops its holder."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from kubernetes.client import CoreV1Api

from platformlib.errors import KubeError, PlatformError, WrongCluster
from platformlib.kube import Identity, Kube, lease
from platformlib.kube.identity import forget, recall
from platformlib.paths import state_dir
from tests.unit.kube_fakes import Answer, MemoryServer, Sent, Server, config_map, connect, kubeconfig, refusal

HOME = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
MARK = "/api/v1/namespaces/kube-system/configmaps/platformlib"
OBJECT = config_map("web", layer="shop")
To = Callable[..., Kube]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Retries follow at once; what this machine remembers is the test's own."""
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path / "state"))
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def to(tmp_path: Path) -> To:
    """A handle to a function."""

    def make(server: Server, *, dry_run: bool = False) -> Kube:
        return connect(kubeconfig(tmp_path, {"token": "t"}), server, dry_run=dry_run)

    return make


def cluster(*objects: Any, data: dict[str, str] | None = None) -> MemoryServer:
    """A cluster, claimed if there is data."""
    server = MemoryServer(HOME, *objects)
    if data:
        server.put(config_map("platformlib", "kube-system", data=data))
    return server


def uid(server: MemoryServer) -> str:
    return str(server.objects["/api/v1/namespaces/kube-system"]["metadata"]["uid"])


def test_a_claim_is_kept_on_both_sides(to: To) -> None:
    kube = to(server := cluster())
    assert kube.identity() is None
    kube.claim("home", "k3s")
    kube.claim("home", "k3s")
    assert kube.identity() == recall("home") == Identity("home", uid(server), "k3s")
    assert json.loads((state_dir("home") / "identity.json").read_text())["distribution"] == "k3s"
    assert oct((state_dir("home") / "identity.json").stat().st_mode)[-3:] == "600"
    assert kube.release("home")
    assert (kube.identity(), recall("home")) == (None, None)
    assert not kube.release("home")


def test_a_mark_of_an_older_version_is_completed_by_its_own_name_alone(to: To) -> None:
    kube = to(server := cluster(data={"name": "home"}))
    assert kube.identity() == Identity("home")
    with pytest.raises(WrongCluster, match="'home'"):
        kube.claim("other", "k3s")
    kube.require("home", "k3s")
    with pytest.raises(WrongCluster, match="run `platformlib claim`, which completes it"):
        kube.apply([OBJECT], layer="shop")
    kube.claim("home", "k3s")
    assert kube.identity() == Identity("home", uid(server), "k3s")
    kube.apply([OBJECT], layer="shop")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "is not claimed by the platform 'home'"),
        ({"name": "other", "uid": "UID", "distribution": "k3s"}, "the parameters of 'other'"),
        ({"name": "home", "uid": "UID", "distribution": "existing"}, "set cluster.distribution to 'existing'"),
        ({"name": "home", "uid": "that-of-another", "distribution": "k3s"}, "copied from another cluster"),
    ],
)
def test_every_verb_that_changes_requires_the_identity(to: To, data: dict[str, str] | None, words: str) -> None:
    server = cluster(OBJECT)
    if data:
        data = {key: uid(server) if value == "UID" else value for key, value in data.items()}
        server.put(config_map("platformlib", "kube-system", data=data))
    kube = to(server)
    kube.require("home", "k3s")
    before = dict(server.objects)
    verbs: dict[str, Callable[[], Any]] = {
        "apply": lambda: kube.apply([OBJECT], layer="shop"),
        "prune": lambda: kube.prune("shop", [OBJECT]),
        "uninstall": lambda: kube.uninstall("shop"),
        "delete": lambda: kube.delete(OBJECT),
        "lock": lambda: kube.lock("home").__enter__(),
        "below": lambda: kube.api.create(config_map("new")),
        "retried": lambda: kube.api.with_retry_timeout(1).create(config_map("new")),
        "official": lambda: CoreV1Api(kube.api_client).delete_namespaced_config_map("web", "shop"),
    }
    if data:
        verbs["claim"] = lambda: kube.claim("home", "k3s")
    for name, verb in verbs.items():
        with pytest.raises(WrongCluster, match=words):
            verb()
        assert server.objects == before, name


@pytest.mark.parametrize(
    "answer", [refusal(500, "broken"), refusal(503, "stopped"), refusal(403, "no"), Answer(200, b"?")]
)
@pytest.mark.parametrize("path", [MARK, "/api/v1/namespaces/kube-system"])
def test_an_answer_that_does_not_come_is_a_no(to: To, answer: Answer, path: str) -> None:
    server = cluster(OBJECT)
    to(server).claim("home", "k3s")
    kube = to(lambda sent: answer if sent.path == path and sent.method == "GET" else server(sent))
    kube.require("home", "k3s")
    before = dict(server.objects)
    for verb in (
        lambda: kube.apply([config_map("new")], layer="shop"), lambda: kube.uninstall("shop"),
        lambda: kube.delete(OBJECT), lambda: kube.claim("home", "k3s"), lambda: kube.api.create(config_map("new")),
    ):  # fmt: skip
        with pytest.raises(KubeError):
            verb()
    assert server.objects == before


def test_a_platform_lives_on_one_cluster(to: To) -> None:
    """A wrong kubeconfig leads to a cluster that nobody claimed: it is not claimed by mistake."""
    to(cluster()).claim("home", "k3s")
    other = cluster(config_map("x"))
    other.objects["/api/v1/namespaces/kube-system"]["metadata"]["uid"] = "of-another"
    with pytest.raises(WrongCluster, match="its uid is of-another, the platform's was uid-1 so far") as refused:
        to(other).claim("home", "k3s")
    assert "identity.json" in refused.value.fix
    assert MARK not in other.objects
    forget("home")
    to(other).claim("home", "k3s")


def test_a_dry_handle_plans_on_a_bare_cluster_and_on_no_other(to: To) -> None:
    bare, other = cluster(), cluster(data={"name": "other", "uid": "uid-1", "distribution": "k3s"})
    for server in (bare, other):
        kube = to(server, dry_run=True)
        kube.require("home", "k3s")
        if server is bare:
            assert list(kube.apply([OBJECT], layer="shop")["action"]) == ["created"]
        else:
            with pytest.raises(WrongCluster):
                kube.apply([OBJECT], layer="shop")
    assert recall("home") is None


def test_a_kubeconfig_that_changes_under_way_is_verified_again(to: To, tmp_path: Path) -> None:
    """The credentials are refused, the file is read again, and leads to another cluster by now."""
    mine, other = cluster(), cluster(data={"name": "other", "uid": "uid-1", "distribution": "k3s"})
    to(mine).claim("home", "k3s")
    moved = False

    def servers(sent: Sent) -> Answer:
        if sent.headers["Authorization"] == "Bearer new":
            return other(sent)
        return refusal(401, "expired") if moved else mine(sent)

    kube = to(servers)
    kube.require("home", "k3s")
    kube.apply([config_map("web")], layer="shop")
    moved = True
    kubeconfig(tmp_path, {"token": "new"})
    with pytest.raises(WrongCluster):
        kube.api.create(config_map("new"))
    assert "/api/v1/namespaces/shop/configmaps/new" not in other.objects


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that lasts a second; the holder renews only when it must."""
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    monkeypatch.setattr(lease, "EVERY", 60.0)


LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/platformlib-home"


def taken_over(server: MemoryServer) -> None:
    spec = {**server.objects[LEASE]["spec"], "holderIdentity": "another"}
    server.put({**server.objects[LEASE], "spec": spec})


def deleted(server: MemoryServer) -> None:
    del server.objects[LEASE]


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize(
    ("lose", "words"),
    [(taken_over, "another holds it now"), (deleted, "it was deleted")],
)
def test_a_lost_lease_stops_its_holder(to: To, lose: Callable[[MemoryServer], Any], words: str) -> None:
    kube = to(server := cluster())
    with kube.lock("home"):
        kube.apply([config_map("first")], layer="shop")
        lose(server)
        time.sleep(1)
        before = dict(server.objects)
        verbs: tuple[Callable[[], Any], ...] = (
            lambda: kube.apply([config_map("second")], layer="shop"),
            lambda: kube.uninstall("shop"),
        )
        for verb in verbs:
            with pytest.raises(KubeError, match=words):
                verb()
        assert server.objects == before
        assert kube.get("v1", "ConfigMap", "first", "shop"), "reading goes on"
    assert server.objects.get(LEASE, {}).get("spec", {}).get("holderIdentity") in {None, "another"}


@pytest.mark.usefixtures("_short")
def test_a_lease_that_nobody_took_is_renewed(to: To) -> None:
    """The server was away for longer than the lease lasts, and nobody else came."""
    kube = to(server := cluster())
    with kube.lock("home"):
        time.sleep(1.1)
        kube.apply([config_map("first")], layer="shop")
        with kube.lock("home"):  # the same code may ask again
            kube.apply([config_map("second")], layer="shop")
        assert LEASE in server.objects
    assert LEASE not in server.objects


@pytest.mark.usefixtures("_short")
def test_a_server_that_does_not_answer_stops_the_holder(to: To) -> None:
    server, away = cluster(), False
    kube = to(lambda sent: refusal(503, "away") if away and sent.method == "PUT" else server(sent))
    with kube.lock("home"):
        time.sleep(1.1)
        away = True
        with pytest.raises(PlatformError, match="away"):
            kube.api.create(config_map("new"))
        away = False
    assert "/api/v1/namespaces/shop/configmaps/new" not in server.objects
