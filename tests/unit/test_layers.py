"""Layers in their order, on a cluster that exists in memory only: what is there afterwards is what counts."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import platformlib as pl
from platformlib import composition
from platformlib.components.proving import Context, targets
from platformlib.errors import PlatformError, WaitTimeout
from platformlib.kube import reference
from platformlib.layers import Stack, chosen, layers, volumes
from platformlib.settings import Settings

PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]
LAYERS = ["cluster", "storage", "observability"]


class Cluster:
    """What Stack asks of a `Kube`: objects by layer, all ready at once. `never` names a layer that stays unready."""

    def __init__(self, never: str = "") -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.volumes: list[dict[str, Any]] = []
        self.never = never

    def apply(self, objects: list[Any], *, layer: str, dry_run: bool, **_: Any) -> pd.DataFrame:
        before, wanted = self.held.get(layer, {}), {str(reference(obj)): obj for obj in objects}
        rows = [(key, _action(before.get(key), obj)) for key, obj in wanted.items()]
        if not dry_run:
            self.held[layer] = before | wanted
        return pd.DataFrame(rows, columns=["name", "action"])

    def prune(self, layer: str, keep: list[Any], **_: Any) -> pd.DataFrame:
        kept = {str(reference(obj)) for obj in keep}
        gone = [key for key in self.held[layer] if key not in kept]
        self.held[layer] = {key: obj for key, obj in self.held[layer].items() if key in kept}
        return pd.DataFrame([(key, "deleted") for key in gone], columns=["name", "action"])

    def wait(self, objects: list[Any], **_: Any) -> pd.DataFrame:
        table = pd.DataFrame([(str(reference(obj)), not self.never) for obj in objects], columns=["name", "ready"])
        if self.never and self.never in self.held and objects == list(self.held[self.never].values()):
            raise WaitTimeout(f"{self.never} is not ready", table=table)
        return table

    def inventory(self, layer: str) -> list[str]:
        return list(self.held.get(layer, {}))

    def uninstall(self, layer: str, **_: Any) -> pd.DataFrame:
        gone = self.held.pop(layer, {})
        return pd.DataFrame([(key, "deleted") for key in gone], columns=["name", "action"])

    def list(self, *_: str) -> list[Any]:
        return self.volumes


def _action(live: Any, wanted: Any) -> str:
    return "created" if live is None else "unchanged" if live == wanted else "configured"


def settings(**changes: Any) -> Settings:
    return pl.load(PARAMETERS | {"layers": LAYERS} | changes)


def stack(kube: Cluster, **changes: Any) -> Stack:
    return Stack(settings(**changes), kube)  # type: ignore[arg-type]


def test_every_layer_comes_after_what_it_needs() -> None:
    seen: set[str] = set()
    for name, layer in layers().items():
        assert set(layer.needs) <= seen, name
        seen.add(name)


def test_the_order_is_the_tables_not_the_callers() -> None:
    assert [each.name for each in chosen(reversed(LAYERS))] == LAYERS
    assert [each.name for each in chosen(LAYERS, "storage")] == ["cluster", "storage"]


@pytest.mark.parametrize(
    ("names", "until", "words"),
    [
        (["cluster", "metrics"], None, "no layer 'metrics'.*choose one of cluster"),
        (["cluster", "observability"], None, "observability needs storage"),
        (LAYERS, "nonsense", "no layer 'nonsense'"),
        (["cluster"], "storage", "storage is not part of this platform"),
    ],
)
def test_layers_that_cannot_be_are_refused(names: list[str], until: str | None, words: str) -> None:
    with pytest.raises(PlatformError, match=f"(?s){words}"):
        chosen(names, until)


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
    stack(cluster).install("storage")
    assert list(cluster.held) == ["cluster", "storage"]


def test_a_dry_run_tells_and_leaves_nothing() -> None:
    cluster = Cluster()
    assert stack(cluster).install("cluster", dry_run=True)["created"].item() > 0
    assert cluster.held == {}


def test_an_object_that_is_no_longer_rendered_is_pruned() -> None:
    cluster = Cluster()
    stack(cluster).install()
    cluster.held["observability"]["Service observability/old"] = {}
    assert list(stack(cluster).install()["pruned"]) == [0, 0, 1]
    assert "Service observability/old" not in cluster.held["observability"]


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
    installed.uninstall()
    assert cluster.held == {}


def test_a_distribution_that_brings_a_layer_needs_nothing_of_it() -> None:
    cluster = Cluster()
    existing = {"distribution": "existing", "kubeconfig": "~/.kube/config"}
    assert list(stack(cluster, cluster=existing).install("storage")["objects"]) == [0, 0]


def test_status_of_what_is_not_ready_is_a_table() -> None:
    cluster = Cluster(never="cluster")
    cluster.apply(stack(cluster)["cluster"].render(), layer="cluster", dry_run=False)
    table = stack(cluster).status("cluster")
    assert set(table["layer"]) == {"cluster"}
    assert not table["ready"].any()


def volume(phase: str, policy: str = "Delete", storage_class: str = "local-path") -> dict[str, Any]:
    claim = {"namespace": "shop", "name": "data"}
    spec = {"storageClassName": storage_class, "persistentVolumeReclaimPolicy": policy, "claimRef": claim}
    return {"metadata": {"name": "pv"}, "spec": spec, "status": {"phase": phase}}


CLASS = {"kind": "StorageClass", "metadata": {"name": "local-path"}}


@pytest.mark.parametrize(
    ("left", "objects", "error"),
    [
        ([], [CLASS], ""),
        ([volume("Bound", storage_class="other")], [CLASS], ""),
        ([volume("Released", policy="Retain")], [CLASS], ""),
        ([volume("Bound")], [], ""),
        ([volume("Bound")], [CLASS], "volumes in use: shop/data"),
        ([volume("Released")], [CLASS], "not removed after 0 s: pv"),
    ],
)
def test_a_class_goes_after_its_volumes(left: list[Any], objects: list[Any], error: str) -> None:
    cluster: Any = Cluster()
    cluster.volumes = left
    if not error:
        volumes.wait_released(cluster, objects, timeout=0)
        return
    with pytest.raises(PlatformError, match=error):
        volumes.wait_released(cluster, objects, timeout=0)


@pytest.mark.parametrize("workers", [0, 1, 7])
def test_expected_targets_grow_with_the_nodes(workers: int) -> None:
    nodes = [{"name": "cp", "address": "192.168.1.10", "role": "control-plane"}]
    nodes += [{"name": f"w{number}", "address": f"192.168.1.{20 + number}"} for number in range(workers)]
    of_that_size, kube = settings(cluster={"distribution": "kubeadm", "nodes": nodes}), Cluster()
    found = targets(Context(of_that_size, kube), composition.installed(of_that_size))  # type: ignore[arg-type]
    per_node = {job for job, count in found.items() if count == workers + 1}
    assert {"node-exporter", "promtail", "kube-router"} <= per_node
    assert found["kubelet"] == 2 * (workers + 1)
    assert (found["apiserver"], found["prometheus"], found["loki"]) == (1, 1, 1)
