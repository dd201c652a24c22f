"""The inventory as a set: what was recorded and not forgotten is there, however it is spread."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platformlib.kube import Reference, inventory
from tests.unit.kube_fakes import Answer, MemoryServer, Sent, connect, kubeconfig

LIMITS = st.tuples(st.integers(60, 900), st.integers(60, 900))
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


class Killed(MemoryServer):
    """Dies before one of its writes."""

    left = 10**6

    def _write(self, sent: Sent, path: str, obj: Any) -> Answer:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super()._write(sent, path, obj)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.sets(st.integers(0, 40)), after=st.sets(st.integers(0, 40)), limits=LIMITS, at=st.integers(0, 3))
def test_a_run_that_is_killed_leaves_a_reference_too_many(  # noqa: PLR0917  one argument for each that is drawn
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: set[int],
    after: set[int],
    limits: tuple[int, int],
    at: int,
) -> None:
    """Also while references move on, since a ConfigMap may hold less than before."""
    old, new = ({Reference("v1", "ConfigMap", "ns", f"object-{number}") for number in each} for each in (before, after))
    kube = connect(kubeconfig(tmp_path, {"token": "t"}), server := Killed())
    monkeypatch.setattr(inventory, "LIMIT", limits[0])
    inventory.record(kube.api, "l", old)
    monkeypatch.setattr(inventory, "LIMIT", limits[1])
    server.left = at
    with suppress(KeyboardInterrupt):
        inventory.record(kube.api, "l", new)
    assert old <= set(kube.inventory("l"))
    server.left = at
    with suppress(KeyboardInterrupt):
        inventory.forget(kube.api, "l", new - old)
    assert old <= set(kube.inventory("l"))
    server.left = 10**6
    inventory.record(kube.api, "l", new)
    assert kube.inventory("l") == sorted(old | new)
