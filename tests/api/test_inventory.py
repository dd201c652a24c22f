"""The inventory loses no reference: two writers, many objects, the form of older versions."""

import json
import threading

from platformlib.kube import Kube, Reference, inventory
from tests.api.control_plane import ControlPlane


def refs(layer: str, count: int, width: int = 0, first: int = 0) -> list[Reference]:
    names = (f"object-{number:05}".ljust(width, "x") for number in range(first, first + count))
    return [Reference("v1", "ConfigMap", layer, name) for name in names]


def shards(kube: Kube, layer: str) -> dict[str, int]:
    """The ConfigMaps of a layer's inventory, and their sizes."""
    listed = kube.list("v1", "ConfigMap", "kube-system", label_selector=f"platformlib.io/layer={layer}")
    return {obj["metadata"]["name"]: len(json.dumps(obj["data"])) for obj in listed}


def test_writers_at_once_lose_nothing(control_plane: ControlPlane, kube: Kube, layer: str) -> None:
    """Twelve of them, of which half record and forget again."""
    parts = [refs(layer, 4, first=4 * number) for number in range(12)]

    def write(number: int) -> None:
        own = Kube.connect(control_plane.kubeconfig)
        inventory.record(own.api, layer, parts[number])
        if number % 2:
            inventory.forget(own.api, layer, parts[number][:2])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [ref for number, part in enumerate(parts) for ref in (part[2:] if number % 2 else part)]
    assert kube.inventory(layer) == sorted(wanted)
    inventory.forget(kube.api, layer, wanted)
    assert shards(kube, layer) == {}


def test_five_thousand_long_names_fit(kube: Kube, layer: str) -> None:
    """They are more than one object may hold."""
    many = refs(layer, 5000, width=250)
    inventory.record(kube.api, layer, many)
    assert kube.inventory(layer) == many
    found = shards(kube, layer)
    assert len(found) > 2
    assert max(found.values()) < 2**20
    inventory.record(kube.api, layer, [*many, *refs(layer, 1, first=9999)])
    assert len(kube.inventory(layer)) == 5001
    inventory.forget(kube.api, layer, many)
    assert kube.inventory(layer) == refs(layer, 1, first=9999)


def test_the_single_form_of_older_versions_moves_on(kube: Kube, layer: str) -> None:
    """One ConfigMap, written by server-side apply, nearly full."""
    old = refs(layer, 3400, width=250)
    lines = "\n".join(json.dumps([ref.api_version, ref.kind, ref.namespace, ref.name]) for ref in old)
    assert 900_000 < len(lines) < 2**20
    about = {
        "name": f"platformlib-layer-{layer}", "namespace": "kube-system",
        "labels": {"platformlib.io/layer": layer, "app.kubernetes.io/managed-by": "platformlib"},
    }  # fmt: skip
    written = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"references": lines}}
    kube.api.apply(written, force=True)
    assert kube.inventory(layer) == old
    added = refs(layer, 2000, width=250, first=3400)
    inventory.record(kube.api, layer, added)
    assert kube.inventory(layer) == old + added
    assert max(shards(kube, layer).values()) < 600_000
    inventory.forget(kube.api, layer, old)
    assert kube.inventory(layer) == added


def test_a_small_inventory_is_one_object(kube: Kube, layer: str) -> None:
    inventory.record(kube.api, layer, refs(layer, 100))
    assert list(shards(kube, layer)) == [f"platformlib-layer-{layer}"]
