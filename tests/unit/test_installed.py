"""Layers on a cluster that exists in memory only: what is there afterwards is what counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import platformlib as pl
from platformlib.errors import PlatformError, WaitTimeout
from platformlib.kube import Reference, reference
from platformlib.kube.objects import DATA, LAYER_LABEL
from platformlib.layers import Stack
from platformlib.layers.steps import Steps, changes
from platformlib.settings import Settings

PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]
LAYERS = ["cluster", "storage", "observability"]
OLD = Reference("v1", "Service", "observability", "old")


class Cluster:
    """What Stack asks of a `Kube`: objects by layer, all ready at once. `never` names a layer that stays unready."""

    def __init__(self, never: str = "", *, dry_run: bool = False) -> None:
        self.held: dict[str, dict[Reference, Any]] = {}
        self.never, self.dry_run, self.locked = never, dry_run, False
        self.adopted: frozenset[str] = frozenset()
        self.volumes: list[dict[str, Any]] = []
        self.deleted: list[str] = []

    @contextmanager
    def lock(self, _: str) -> Iterator[None]:
        self.locked = True
        yield
        self.locked = False

    def apply(self, objects: list[Any], *, layer: str, adopt: frozenset[str], **_: Any) -> pd.DataFrame:
        assert self.locked
        self.adopted = adopt
        before, wanted = self.held.get(layer, {}), {reference(obj): obj for obj in objects}
        rows = [(ref.name, _action(before.get(ref), obj)) for ref, obj in wanted.items()]
        if not self.dry_run:
            self.held[layer] = before | wanted
        return pd.DataFrame(rows, columns=["name", "action"])

    def prune(self, layer: str, keep: list[Any], **_: Any) -> pd.DataFrame:
        assert self.locked
        kept = {reference(obj) for obj in keep}
        gone = [ref for ref in self.held.get(layer, {}) if ref not in kept]
        if not self.dry_run:
            self.held[layer] = {ref: obj for ref, obj in self.held[layer].items() if ref in kept}
        action = "would delete" if self.dry_run else "deleted"
        return pd.DataFrame([(ref.name, action) for ref in gone], columns=["name", "action"])

    def wait(self, objects: list[Any], **_: Any) -> pd.DataFrame:
        table = pd.DataFrame([(reference(obj).name, not self.never) for obj in objects], columns=["name", "ready"])
        if self.never and objects == list(self.held.get(self.never, {}).values()):
            raise WaitTimeout(f"{self.never} is not ready", table=table)
        return table

    def diff(self, objects: list[Any], **_: Any) -> pd.DataFrame:
        return pd.DataFrame([(reference(obj).name,) for obj in objects], columns=["name"])

    def inventory(self, layer: str) -> list[Reference]:
        return list(self.held.get(layer, {}))

    def list(self, _: str, kind: str, *__: Any, **___: Any) -> list[Any]:
        if kind == "PersistentVolume":
            return self.volumes
        return [{"metadata": {"labels": {LAYER_LABEL: name}}} for name in self.held]

    def get(self, _: str, kind: str, name: str) -> Any:
        """Of namespaces, the application's."""
        annotations = {DATA: "true"} if name == "shop" else {}
        return {"kind": kind, "metadata": {"name": name, "annotations": annotations}}

    def uninstall(self, layer: str, **_: Any) -> pd.DataFrame:
        gone = self.held.pop(layer, {})
        return pd.DataFrame([ref.row | {"action": "deleted"} for ref in gone])

    def delete(self, ref: Reference, **_: Any) -> bool:
        """What is deleted releases its volumes, which their provisioner removes."""
        self.deleted.append(str(ref))
        names = {ref.name} if ref.kind == "Namespace" else {ref.namespace}
        self.volumes = [each for each in self.volumes if each["spec"]["claimRef"]["namespace"] not in names]
        return True


def _action(live: Any, wanted: Any) -> str:
    return "created" if live is None else "unchanged" if live == wanted else "configured"


def settings(**changed: Any) -> Settings:
    return pl.load(PARAMETERS | {"layers": LAYERS} | changed)


def stack(kube: Cluster | None, *, until: str | None = None, steps: Steps | None = None, **changed: Any) -> Stack:
    return Stack(settings(**changed), kube, until=until, steps=steps)  # type: ignore[arg-type]


EXISTING = {"distribution": "existing", "kubeconfig": "~/.kube/config", "context": "home"}


def test_an_install_is_a_table_and_the_second_changes_nothing() -> None:
    cluster = Cluster()
    first, second = stack(cluster).install(), stack(cluster).install()
    assert list(first["layer"]) == LAYERS
    assert (first["created"] == first["objects"]).all()
    assert (second["unchanged"] == second["objects"]).all()
    assert second[["created", "configured", "pruned"]].to_numpy().sum() == 0
    assert list(second["objects"]) == [len(cluster.held[name]) for name in LAYERS]


def test_until_leaves_the_layers_above_alone() -> None:
    cluster = Cluster()
    installed = stack(cluster, until="storage")
    installed.install()
    assert list(cluster.held) == ["cluster", "storage"]
    left = installed["observability"].apply()
    assert left.to_dict("records") == [
        {"part": "observability", "step": "apply", "skipped": "it comes after `storage`"}
    ]
    assert list(cluster.held) == ["cluster", "storage"]


def test_a_dry_run_on_a_cluster_without_layers_plans_all_of_them() -> None:
    cluster = Cluster(dry_run=True)
    assert (stack(cluster).install()["created"] > 0).all()
    assert cluster.held == {}


def test_a_dry_run_without_a_cluster_plans_all_of_them() -> None:
    installed = stack(None)
    assert (installed.install()["created"] > 0).all()
    assert set(installed.diff()["live"]) == {"(absent)"}
    assert not installed.status()["ready"].any()
    assert "skipped" in installed["storage"].verify()


def test_a_dry_run_shows_what_would_be_pruned() -> None:
    cluster = Cluster()
    stack(cluster).install()
    cluster.held["observability"][OLD] = {}
    cluster.dry_run = True
    planned = stack(cluster)["observability"].apply()
    assert list(planned[planned["action"] == "would delete"]["name"]) == ["old"]
    assert OLD in cluster.held["observability"]


def test_an_object_that_is_no_longer_rendered_is_pruned() -> None:
    cluster = Cluster()
    stack(cluster).install()
    cluster.held["observability"][OLD] = {}
    assert list(stack(cluster).install()["pruned"]) == [0, 0, 1]
    assert OLD not in cluster.held["observability"]


def test_a_layer_that_renders_nothing_any_more_keeps_its_objects() -> None:
    cluster = Cluster()
    stack(cluster, until="storage").install()
    before = dict(cluster.held["storage"])
    kept = stack(cluster, cluster=EXISTING)["storage"].apply()
    assert set(kept["action"]) == {"kept, storage renders nothing"}
    assert cluster.held["storage"] == before


def test_a_layer_that_is_not_ready_stops_those_above() -> None:
    cluster = Cluster(never="storage")
    with pytest.raises(WaitTimeout, match="storage"):
        stack(cluster).install()
    assert list(cluster.held) == ["cluster", "storage"]


def test_a_layer_is_not_installed_before_what_it_needs() -> None:
    with pytest.raises(PlatformError, match="storage needs cluster"):
        stack(Cluster())["storage"].apply()


def test_what_others_need_is_not_uninstalled() -> None:
    cluster = Cluster()
    installed = stack(cluster)
    installed.install()
    with pytest.raises(PlatformError, match="storage is needed by observability"):
        installed["storage"].uninstall()


def test_uninstalling_what_is_neither_named_nor_installed_is_an_error() -> None:
    cluster = Cluster()
    stack(cluster, until="cluster").install()
    with pytest.raises(PlatformError, match=r"(?s)observability is not installed.*installed: cluster"):
        stack(cluster, layers=["cluster"])["observability"].uninstall()


def test_a_layer_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PlatformError, match="no layer 'nonsense'"):
        stack(Cluster())["nonsense"].apply()


def test_a_distribution_that_brings_a_layer_needs_nothing_of_it() -> None:
    assert list(stack(Cluster(), until="storage", cluster=EXISTING).install()["objects"]) == [0, 0]


def test_what_may_be_adopted_comes_from_the_settings() -> None:
    cluster = Cluster()
    stack(cluster, until="cluster", adopt=["Namespace/shop"]).install()
    assert cluster.adopted == {"Namespace/shop"}


def test_status_of_what_is_not_ready_is_a_table() -> None:
    cluster = Cluster()
    installed = stack(cluster, until="cluster")
    installed.install()
    cluster.never = "cluster"
    table = installed.status()
    assert set(table["layer"]) == {"cluster"}
    assert not table["ready"].any()


def volume(
    phase: str, namespace: str = "shop", policy: str = "Delete", storage_class: str = "local-path"
) -> dict[str, Any]:
    claim = {"namespace": namespace, "name": "files"}
    spec = {"storageClassName": storage_class, "persistentVolumeReclaimPolicy": policy, "claimRef": claim}
    return {"metadata": {"name": f"pv-{namespace}"}, "spec": spec, "status": {"phase": phase}}


KEPT = [("pv-shop", "kept, data of shop/files")]
VOLUMES = [
    # volumes, delete_data → rows about volumes and claims, deleted, error
    ([], (), [], [], ""),
    ([volume("Bound", storage_class="other")], ("shop",), [], [], ""),
    ([volume("Released", policy="Retain")], (), [], [], ""),
    ([volume("Bound")], (), KEPT, [], ""),
    ([volume("Bound")], ("other/files",), KEPT, [], ""),
    ([volume("Bound")], ("shop/files",), [("files", "deleted")], ["PersistentVolumeClaim shop/files"], ""),
    # Pods of the application use the claim: it goes with its namespace.
    ([volume("Bound")], ("shop",), [("shop", "deleted")], ["Namespace shop"], ""),
    # The namespace of a layer goes with its own layer; its claim has to go before the provisioner.
    ([volume("Bound", "observability")], ("observability",), [("files", "deleted")],
     ["PersistentVolumeClaim observability/files"], ""),
    ([volume("Released")], (), [], [], "volumes not removed after 0 s: pv-shop"),
]  # fmt: skip


@pytest.mark.parametrize(("volumes", "named", "rows", "deleted", "error"), VOLUMES)
def test_a_storage_class_goes_after_the_volumes_that_are_named(
    volumes: list[Any], named: tuple[str, ...], rows: list[Any], deleted: list[str], error: str
) -> None:
    cluster = Cluster()
    storage = stack(cluster, until="storage")
    storage.install()
    cluster.volumes = volumes
    if error:
        with pytest.raises(WaitTimeout, match=error):
            storage["storage"].uninstall(delete_data=named, timeout=0)
        assert "storage" in cluster.held
        return
    removed = storage["storage"].uninstall(delete_data=named, timeout=0)
    of_data = removed[removed["kind"].isin(["PersistentVolume", "PersistentVolumeClaim"]) | (removed["name"] == "shop")]
    assert list(zip(of_data["name"], of_data["action"], strict=True)) == rows
    assert cluster.deleted == deleted
    assert "storage" not in cluster.held


def test_a_dry_run_of_an_uninstall_deletes_no_claim() -> None:
    cluster = Cluster()
    storage = stack(cluster, until="storage")
    storage.install()
    cluster.volumes, cluster.dry_run = [volume("Bound")], True
    removed = storage["storage"].uninstall(delete_data=("shop/files",))
    assert "would delete" in set(removed["action"])
    assert cluster.deleted == []


def test_steps_keep_what_was_done_with_its_time() -> None:
    lines: list[str] = []
    steps = Steps(lines.append)
    with steps.step("storage", "apply") as step:
        step.tell("working")
        step.done(pd.DataFrame({"action": ["created", "unchanged", "deleted", "kept, data"]}))
    with pytest.raises(ValueError, match="broken"), steps.step("storage", "wait"):
        raise ValueError("broken")
    assert steps.report()[["part", "step", "rows", "changed"]].to_numpy().tolist() == [["storage", "apply", 4, 2]]
    assert lines[0].endswith("s  working")


CHANGES = [
    (pd.DataFrame({"action": ["unchanged", "absent", "kept", "kept, data", "kept, adopted"]}), 0),
    (pd.DataFrame({"action": ["would delete", "created", "configured"]}), 3),
    (pd.DataFrame({"changed": [True, False, True]}), 2),
    (pd.DataFrame({"ready": [True]}), 0),
]


@pytest.mark.parametrize(("result", "count"), CHANGES)
def test_counts_changes(result: pd.DataFrame, count: int) -> None:
    assert changes(result) == count
