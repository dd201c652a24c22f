"""A larger volume for Prometheus on a platform with data: every sample of before is there after."""

import time
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib.errors import KubeError
from platformlib.kube import Reference
from platformlib.layers import Installed, layer
from platformlib.quantities import amount
from tests.lab.conftest import PARAMETERS

SET = Reference("apps/v1", "StatefulSet", "observability", "prometheus")
CLAIM = ("v1", "PersistentVolumeClaim", "data-prometheus-0", "observability")


def resized(size: str) -> pl.Settings:
    """The lab's parameters with another size."""
    document = yaml.safe_load(PARAMETERS.read_text("utf-8"))
    document["platform"].setdefault("observability", {}).setdefault("prometheus", {})["storage"] = size
    return pl.load(document["platform"])


@pytest.mark.full
def test_a_larger_volume_loses_no_sample(target: "pl.Target") -> None:
    kube, end = target.kube, time.time() - 60
    size = target.settings.observability.prometheus.storage
    larger = f"{int(amount(size) / 2**20) + 64}Mi"
    window: dict[str, Any] = {"start": end - 240, "end": end, "step": 30}
    before, claim = target.prometheus.query_range("up", **window), kube.get(*CLAIM)
    assert claim is not None
    assert before.count().sum() > 0, "there is nothing to lose"
    grown = Installed(layer("observability"), resized(larger), kube)
    try:
        table = grown.apply()
        rows = {(row["kind"], row["name"]): row["action"] for row in table.to_dict("records")}
        assert rows["StatefulSet", "prometheus"] == "configured"
        assert rows[CLAIM[1], CLAIM[2]].startswith("kept, class"), "the lab's class cannot expand"
        grown.wait()
        assert (kube.get(*CLAIM) or {})["metadata"]["uid"] == claim["metadata"]["uid"]
        after = target.prometheus.query_range("up", **window)
        assert after.equals(before)
        with pytest.raises(KubeError, match="cannot shrink"):
            target.layer("observability").apply()
    finally:
        # The other tests have the lab's own parameters.
        kube.api.delete(SET, policy="Orphan")
        deadline = time.monotonic() + 60
        while kube.api.get(SET) and time.monotonic() < deadline:
            time.sleep(1)
        target.layer("observability").apply()
        target.layer("observability").wait()
    assert set(target.layer("observability").apply()["action"]) == {"unchanged"}
    assert target.prometheus.query_range("up", **window).equals(before)
