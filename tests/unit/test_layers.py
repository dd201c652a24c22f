"""The layers as data: their order, and which sets of them are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib import composition
from platformlib.components.proving import Context, targets
from platformlib.errors import PlatformError
from platformlib.layers import chosen, layers
from platformlib.settings import Settings

PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]
LAYERS = ["cluster", "storage", "observability"]


def settings(**changes: Any) -> Settings:
    return pl.load(PARAMETERS | {"layers": LAYERS} | changes)


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


@pytest.mark.parametrize("workers", [0, 1, 7])
def test_expected_targets_grow_with_the_nodes(workers: int) -> None:
    nodes = [{"name": "cp", "address": "192.168.1.10", "role": "control-plane"}]
    nodes += [{"name": f"w{number}", "address": f"192.168.1.{20 + number}"} for number in range(workers)]
    of_that_size = settings(cluster={"distribution": "kubeadm", "nodes": nodes})
    found = targets(Context(of_that_size, None), composition.installed(of_that_size))  # type: ignore[arg-type]
    per_node = {job for job, count in found.items() if count == workers + 1}
    assert {"node-exporter", "promtail", "kube-router"} <= per_node
    assert found["kubelet"] == 2 * (workers + 1)
    assert (found["apiserver"], found["prometheus"], found["loki"]) == (1, 1, 1)
