"""The inventory as a set: what was recorded and not forgotten is there, however it is spread."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platformlib.kube import Reference, inventory
from tests.unit.kube_fakes import MemoryServer, connect, kubeconfig

STEPS = st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 40), max_size=30)), max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, limit=st.integers(60, 900))
def test_what_was_recorded_and_not_forgotten_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[bool, set[int]]], limit: int
) -> None:
    """Whatever the limit of one ConfigMap, and in whatever order."""
    monkeypatch.setattr(inventory, "LIMIT", limit)
    kube, known = connect(kubeconfig(tmp_path, {"token": "t"}), MemoryServer()), set[Reference]()
    for adds, numbers in steps:
        chosen = {Reference("v1", "ConfigMap", "ns", f"object-{number}") for number in numbers}
        (inventory.record if adds else inventory.forget)(kube.api, "l", chosen)
        known = known | chosen if adds else known - chosen
        assert kube.inventory("l") == sorted(known)
