"""Every layer of the walking platform against a real API server: it takes all objects, and knows them again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib.errors import ApplyConflict
from platformlib.kube import Kube
from platformlib.layers import Installed, layer

PARAMETERS = yaml.safe_load((Path(__file__).parents[2] / "parameters" / "lab.yaml").read_text())["platform"]
LAYERS = ["cluster", "storage", "observability"]


class Admitted(Installed):
    """A layer for an API server that admits no privileged container: its default, unlike any distribution's."""

    def render(self) -> list[dict[str, Any]]:
        objects = super().render()
        for obj in objects:
            if obj["metadata"]["name"] == "kube-router" and obj["kind"] == "DaemonSet":
                del obj["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"]
        return objects


@pytest.fixture
def installed(kube: Kube) -> list[Admitted]:
    settings = pl.load(PARAMETERS | {"layers": LAYERS})
    return [Admitted(layer(name), settings, kube) for name in LAYERS]


def test_layers_come_stay_and_go(kube: Kube, installed: list[Admitted], edit: Callable[..., None]) -> None:
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
