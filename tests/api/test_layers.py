"""Every layer of the walking platform against a real API server: it takes all objects, and knows them again.

What others made is never lost: not by an install, not by an uninstall, not by a wrong kubeconfig.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import platformlib as pl
from platformlib.errors import ApplyConflict, KubeError, PlatformError, WrongCluster
from platformlib.kube import Kube, Reference, identity, parse, reference
from platformlib.kube.credentials import Credentials
from platformlib.kube.session import Session
from platformlib.layers import Installed, Stack, layer
from platformlib.layers.installed import inventories
from platformlib.settings import Settings
from platformlib.targets import Target
from tests.api.control_plane import TOKEN, ControlPlane, poll
from tests.notebooks.apiserver import kubeconfig

PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]
LAYERS = ["cluster", "storage", "observability"]
LIGHT = {
    "security": frozenset({"Namespace", "ResourceQuota", "LimitRange", "NetworkPolicy"}),
    "observability": frozenset({"Namespace", "StatefulSet", "Service", "ConfigMap"}),
}


SPACES = ("shop", "observability", "storage", "kyverno", "access", "node-agents")


class Admitted(Installed):
    """A layer for an API server that admits no privileged container: its default, unlike any distribution's."""

    def render(self) -> list[dict[str, Any]]:
        objects = super().render()
        for obj in objects:
            if obj["metadata"]["name"] == "kube-router" and obj["kind"] == "DaemonSet":
                del obj["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"]
        return objects


class Light(Admitted):
    """A part of it: these tests are about what becomes of objects, not about every one of them."""

    def render(self) -> list[dict[str, Any]]:
        return [obj for obj in super().render() if obj["kind"] in LIGHT.get(self.name, {obj["kind"]})]


class Platform(Stack):
    """A stack of such layers."""

    def __getitem__(self, name: str) -> Light:
        found = super().__getitem__(name)
        return Light(found.layer, self.settings, self.kube, skipped=found.skipped)


def load(**changed: Any) -> Settings:
    return pl.load(PARAMETERS | {"layers": LAYERS} | changed)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine remembers of a platform is this test's alone."""
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path))


@pytest.fixture
def connect(control_plane: ControlPlane, kube: Kube) -> Iterator[Callable[..., Kube]]:
    """Handles as a target hands them out, on a cluster that the platform `lab` has claimed until the test ends."""
    kube.claim("lab", "kubeadm")

    def handle(name: str = "lab", distribution: str = "kubeadm", *, dry_run: bool = False) -> Kube:
        made = Kube.connect(control_plane.kubeconfig, dry_run=dry_run)
        made.require(name, distribution)
        return made

    yield handle
    clean(kube)
    identity.forget("lab")
    if mark := kube.identity():
        kube.release(mark.name)


def clean(kube: Kube) -> None:
    """Delete everything of every layer, and wait once: each namespace takes five seconds to go."""
    names = inventories(kube)
    refs = {ref for name in names for ref in kube.inventory(name)}
    spaces = {Reference("v1", "Namespace", "", name) for name in SPACES}
    for ref in sorted(refs | spaces, key=lambda ref: ref.rank, reverse=True):
        with suppress(KubeError):
            kube.api.delete(ref)
    poll(lambda: not any(map(kube.api.get, spaces)), timeout=60, what="the namespaces are gone")
    for name in names:
        kube.uninstall(name)


def by_somebody(kube: Kube, text: str) -> None:
    """Create objects as somebody else does: without this platform's labels."""
    for obj in parse(text):
        ref = reference(obj)
        collection = Reference(ref.api_version, ref.kind, ref.namespace, "")
        kube.api.call("POST", collection, body=obj, fieldManager="somebody")


def test_layers_come_stay_and_go(kube: Kube, edit: Callable[..., None]) -> None:
    installed = [Admitted(layer(name), load(), kube) for name in LAYERS]
    for each in installed:
        assert set(each.apply()["action"]) == {"created"}
    for each in installed:
        assert set(each.apply()["action"]) == {"unchanged"}
        assert each.diff().empty

    an_edited_field_is_found_and_put_back(installed[-1], edit)

    for each in reversed(installed):
        each.uninstall()
    left = [obj for each in installed for obj in each.render() if kube.get(*found_by(obj))]
    assert [obj["metadata"]["name"] for obj in left] == ["observability"], "it holds the claims of Prometheus and Loki"
    claims = ["observability/data-prometheus-0", "observability/data-loki-0"]
    kube.uninstall("observability", delete_data=[*claims, "observability"])
    assert kube.get("v1", "Namespace", "observability") is None


def an_edited_field_is_found_and_put_back(observability: Installed, edit: Callable[..., None]) -> None:
    edit("/apis/apps/v1/namespaces/observability/statefulsets/loki", {"spec": {"replicas": 0}})
    found = observability.diff()
    assert found[["name", "field", "live", "wanted"]].to_numpy().tolist() == [["loki", "spec.replicas", "0", "1"]]
    with pytest.raises(ApplyConflict, match=r"spec\.replicas"):
        observability.apply()
    changed = observability.apply(take_ownership=True)
    assert list(changed[changed["action"] == "configured"]["name"]) == ["loki"]
    assert observability.diff().empty


def found_by(obj: dict[str, Any]) -> tuple[str, str, str, str | None]:
    return obj["apiVersion"], obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace")


SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"""
GOODS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: prices, namespace: shop}
data: {apple: "1"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: files, namespace: shop}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
APPLICATIONS = {"layers": ["cluster", "security"], "security": {"applications": [{"name": "shop"}]}}


def goods_are_there(kube: Kube) -> bool:
    live = [kube.get("v1", "ConfigMap", "prices", "shop"), kube.get("v1", "PersistentVolumeClaim", "files", "shop")]
    return all(each and not each["metadata"].get("deletionTimestamp") for each in live)


def test_a_namespace_of_others_is_neither_adopted_nor_deleted(kube: Kube, connect: Callable[..., Kube]) -> None:
    by_somebody(kube, SHOP)
    by_somebody(kube, GOODS)
    before = kube.get("v1", "Namespace", "shop")
    platform = Platform(load(**APPLICATIONS), connect())
    platform["cluster"].apply()
    with pytest.raises(KubeError, match=r"(?s)shop.*adopt"):
        platform["security"].apply()
    assert kube.inventory("security") == []
    assert kube.get("v1", "Namespace", "shop") == before

    adopting = Platform(load(**APPLICATIONS, adopt=["Namespace/shop"]), connect())
    adopting["security"].apply()
    assert adopting["security"].apply()["action"].eq("unchanged").all()
    without = Platform(load(layers=["cluster", "security"], security={}), connect())
    pruned = without["security"].apply().query("kind == 'Namespace' and name == 'shop'")
    assert list(pruned["action"]) == ["kept, adopted"]
    without["security"].uninstall()
    assert goods_are_there(kube)


def test_uninstalling_security_keeps_applications_until_they_are_named(
    kube: Kube, connect: Callable[..., Kube]
) -> None:
    platform = Platform(load(**APPLICATIONS), connect())
    platform["cluster"].apply()
    platform["security"].apply()
    by_somebody(kube, GOODS)
    removed = platform["security"].uninstall()
    assert list(removed.query("kind == 'Namespace' and name == 'shop'")["action"]) == ["kept, data"]
    assert goods_are_there(kube)
    assert kube.inventory("security") == []

    target = Target(load(**APPLICATIONS))
    target.kube = connect()
    data = target.removal.data()[["delete_data", "kind", "objects", "claims", "bytes", "fate"]]
    assert [row for row in data.to_numpy().tolist() if row[0].startswith("shop")] == [
        ["shop", "Namespace", 2, 1, 2**30, "kept"],
        ["shop/files", "PersistentVolumeClaim", 1, 1, 2**30, "kept"],
    ]
    named = target.removal.data(["shop", "shopp"]).set_index("delete_data")["fate"]
    assert named[["shop", "shop/files", "shopp"]].tolist() == ["deleted", "deleted", "absent"]
    platform["security"].uninstall(delete_data=("shop",))
    assert kube.get("v1", "Namespace", "shop") is None


def test_claims_outlive_the_layer_that_asked_for_them(kube: Kube, connect: Callable[..., Kube]) -> None:
    """Those of a StatefulSet that an older version made too, which owns its claims."""
    platform = Platform(load(), connect())
    for each in platform:
        each.apply()
    policy = {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}}}
    loki = Reference("apps/v1", "StatefulSet", "observability", "loki")
    kube.api.call("PATCH", loki, body=policy, content="application/merge-patch+json", fieldManager="platformlib")
    claim = Reference("v1", "PersistentVolumeClaim", "observability", "data-loki-0")

    def owned() -> bool:
        live = kube.api.get(claim)
        return bool(live and live["metadata"].get("ownerReferences"))

    poll(owned, timeout=30, what="the StatefulSet owns its claim")
    removed = platform["observability"].uninstall()
    assert removed.set_index("name").loc["data-loki-0", "action"] == "kept, data"
    live = kube.api.get(claim)
    assert live is not None and not live["metadata"].get("deletionTimestamp")

    platform["observability"].apply()
    platform["observability"].uninstall(delete_data=("observability/data-loki-0",))
    assert kube.api.get(claim) is None


def test_a_layer_that_left_the_parameters_can_be_removed(kube: Kube, connect: Callable[..., Kube]) -> None:
    for each in Platform(load(), connect()):
        each.apply()
    smaller = Platform(load(layers=["cluster", "storage"]), connect())
    with pytest.raises(PlatformError, match="storage is needed by observability"):
        smaller["storage"].uninstall()
    assert len(smaller["observability"].uninstall()) > 0
    with pytest.raises(PlatformError, match=r"(?s)observability is not installed.*installed: storage, cluster"):
        smaller["observability"].uninstall()

    target = Target(load(layers=["cluster"]))
    target.kube = connect()
    target.layers = smaller
    assert set(target.removal.inventory()["layer"]) == {"storage", "cluster"}
    target.removal.uninstall(timeout=60)
    assert target.removal.verify()["ok"].all()


def test_a_layer_of_another_version_is_removed_too(kube: Kube, connect: Callable[..., Kube]) -> None:
    old = parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: old, namespace: default}\ndata: {a: b}")
    kube.apply(old, layer="olden")
    target = Target(load(layers=["cluster"]))
    target.kube = connect()
    assert list(target.removal.uninstall(timeout=60)["layer"]) == ["olden"]
    assert kube.get("v1", "ConfigMap", "old", "default") is None


def test_another_distribution_is_refused_and_nothing_is_pruned(kube: Kube, connect: Callable[..., Kube]) -> None:
    lower = ["cluster", "storage"]
    for each in Platform(load(layers=lower), connect()):
        each.apply()
    before = {name: kube.inventory(name) for name in lower}
    existing = {"distribution": "existing", "kubeconfig": "~/.kube/config", "context": "home"}
    for dry_run in (True, False):
        changed = Platform(load(cluster=existing, layers=lower), connect(distribution="existing", dry_run=dry_run))
        with pytest.raises(WrongCluster, match="kubeadm"):
            changed["cluster"].apply()
    assert {name: kube.inventory(name) for name in lower} == before
    kept = Platform(load(cluster=existing, layers=lower), connect())["storage"].apply()
    assert set(kept["action"]) == {"kept, storage renders nothing"}
    assert {name: kube.inventory(name) for name in lower} == before


def changing_verbs(kube: Kube) -> dict[str, Callable[[], object]]:
    """Everything that a handle can change."""
    obj = parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: guarded, namespace: default}")[0]
    return {
        "apply": lambda: kube.apply([obj], layer="guarded"),
        "prune": lambda: kube.prune("guarded", [obj]),
        "uninstall": lambda: kube.uninstall("guarded"),
        "delete": lambda: kube.delete(obj),
        "create": lambda: kube.api.create(obj),
        "call": lambda: kube.api.call("DELETE", reference(obj)),
        "lock": lambda: kube.lock("guarded").__enter__(),
    }


@pytest.mark.parametrize("case", ["unclaimed", "another name", "another uid", "another distribution", "silent"])
def test_nothing_is_changed_on_a_cluster_that_is_not_the_platforms(
    case: str, kube: Kube, connect: Callable[..., Kube], control_plane: ControlPlane, tmp_path: Path
) -> None:
    names = {"another name": "other"}
    guarded = connect(names.get(case, "lab"), "k3s" if case == "another distribution" else "kubeadm")
    if case == "unclaimed":
        kube.release("lab")
    if case == "another uid":
        identity.remember(identity.Identity("lab", "of-another-cluster", "kubeadm"))
    if case == "silent":
        stopped = kubeconfig(tmp_path / "stopped", "http://127.0.0.1:1", "stopped")
        guarded = Kube(Session(Credentials.load(stopped), retry_timeout=0.1))
        guarded.require("lab", "kubeadm")
    before = len(kube.list("v1", "ConfigMap"))
    for name, verb in changing_verbs(guarded).items():
        with pytest.raises(KubeError if case == "silent" else WrongCluster):
            verb()
        assert len(kube.list("v1", "ConfigMap")) == before, name
    if case in {"another name", "another uid", "another distribution"}:
        with pytest.raises(WrongCluster):
            guarded.claim(names.get(case, "lab"), "k3s" if case == "another distribution" else "kubeadm")


def test_two_installs_at_once_lose_no_reference(kube: Kube, connect: Callable[..., Kube]) -> None:
    def install(_: int) -> list[str]:
        platform = Platform(load(layers=["cluster", "storage"]), connect())
        return [action for each in platform for action in each.apply()["action"]]

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(install, range(2)))
    rendered = {name: {reference(obj) for obj in Platform(load(), kube)[name].render()} for name in LAYERS[:2]}
    assert {name: set(kube.inventory(name)) for name in LAYERS[:2]} == rendered
    assert sum(actions.count("created") for actions in done) == sum(map(len, rendered.values()))


def test_a_dry_run_and_a_diff_write_nothing(
    kube: Kube, connect: Callable[..., Kube], control_plane: ControlPlane, tmp_path: Path
) -> None:
    """A whole platform on a cluster that others installed: bare, installed, drifted. The API server counts."""
    kube.release("lab")
    path = control_plane.write_kubeconfig(tmp_path / "kubeconfig", {"token": TOKEN})
    observed = {"nodes": ["192.168.1.0/24"], "api": ["192.168.1.201"]}  # this API server has no nodes
    cluster = {"distribution": "existing", "context": "test", "kubeconfig": str(path), "observed": observed}
    settings = load(cluster=cluster)

    def look() -> tuple[pd.DataFrame, pd.DataFrame]:
        identity.forget("lab")
        before = len(control_plane.audited())
        target = Target(settings, dry_run=True)
        differences = target.diff()
        for each in target.layers:  # without the preflight, which asks for what this API server alone cannot have
            each.apply()
            each.wait(1)
            each.verify()
        found = differences, target.report()
        asked = [each for each in control_plane.audited()[before:] if "dryRun=All" not in each["requestURI"]]
        assert {each["verb"] for each in asked} == {"get", "list"}
        return found

    differences, report = look()
    assert set(differences["live"]) == {"(absent)"}
    assert report.query("part == 'observability' and step == 'apply'")["changed"].item() > 20
    kube.claim("lab", "existing")
    for each in Stack(settings, kube):
        each.apply()
    differences, report = look()
    assert differences.empty
    assert report["changed"].sum() == 0
    kube.delete(Reference("v1", "Service", "observability", "prometheus"))
    differences, report = look()
    assert list(differences["name"]) == ["prometheus"]
    assert report["changed"].sum() == 1
