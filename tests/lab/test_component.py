"""A component outside of the package: installed, let through, scraped, proven, shown and removed on real machines."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import platformlib as pl
from platformlib.errors import KubeError
from platformlib.layers import Stack
from tests.lab.conftest import PARAMETERS, ROOT

TOY = ROOT / "tests" / "toy" / "greeter"
SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "greeter"}}
RELOADED = 240.0  # seconds for a changed file to reach the pod, and Prometheus to read it


@pytest.fixture
def extended(target: "pl.Target", tmp_path: Path) -> Iterator["pl.Target"]:
    """The lab's platform with the toy; whatever happens, the toy is gone afterwards."""
    platform = yaml.safe_load(PARAMETERS.read_text("utf-8"))["platform"] | {"components": [str(TOY)]}
    file = tmp_path / "extended.yaml"
    file.write_text(yaml.safe_dump({"platform": platform}))
    try:
        yield pl.bind(str(file))
    finally:
        target.kube.uninstall("applications")
        target.layers.install()
        target.kube.delete(SPACE)


def jobs(target: "pl.Target") -> set[str]:
    return set(target.prometheus.targets()["job"])


def test_a_component_from_outside_comes_works_and_goes(target: "pl.Target", extended: "pl.Target") -> None:
    before = target.kube.get("apps/v1", "StatefulSet", "prometheus", "observability") or {}
    extended.layers.install()  # the toy is ready only once its flows let it reach Loki
    proven = extended.layers["applications"].verify()
    assert set(proven["check"]) == {"pods of greeter", "scrape targets", "greeting"}
    assert extended.queries.greetings(window="5m").max().max() == 3
    assert extended.layers["observability"].verify()["ok"].all()
    assert extended.layers.diff().empty, extended.layers.diff().to_string()
    after = target.kube.get("apps/v1", "StatefulSet", "prometheus", "observability") or {}
    assert after["metadata"]["generation"] == before["metadata"]["generation"]  # no restart for a new component

    extended.layers["applications"].uninstall()
    target.layers.install()
    assert target.layers.diff().empty, target.layers.diff().to_string()
    deadline = time.monotonic() + RELOADED
    while "greeter" in jobs(target) and time.monotonic() < deadline:
        time.sleep(5)
    assert "greeter" not in jobs(target)
    assert target.kube.list("v1", "Pod", "greeter") == []


def test_without_its_flows_it_is_not_let_through(target: "pl.Target", extended: "pl.Target") -> None:
    """The same pods, but for the one policy that lets them reach Loki: they are never ready."""
    Stack(extended.settings, extended.kube, until="observability").install()
    policy = extended.kube.get("networking.k8s.io/v1", "NetworkPolicy", "allow-from-greeter", "greeter")
    assert policy is not None
    extended.kube.delete(policy)
    extended.layers["applications"].apply()
    with pytest.raises(KubeError):
        extended.layers["applications"].wait(60)
