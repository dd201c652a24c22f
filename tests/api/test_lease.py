"""One at a time, on a real API server."""

import threading
import time
from contextvars import Context

import pytest

from platformlib.errors import WaitTimeout
from platformlib.kube import Kube, lease


def test_two_take_turns_and_leave_nothing(kube: Kube, layer: str) -> None:
    inside, most = [0], [0]

    def work() -> None:
        with kube.lock(layer, timeout=30):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.3)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (inside, most) == ([0], [1])
    assert kube.api.get(lease.lease(layer)) is None


def test_the_holder_is_named_while_it_renews(kube: Kube, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 2)
    monkeypatch.setattr(lease, "EVERY", 0.5)
    with kube.lock(layer), pytest.raises(WaitTimeout, match=r"(?s)is held by .*@.* process \d+.*fix: wait"):
        Context().run(kube.lock(layer, timeout=4).__enter__)


def test_a_killed_holder_is_followed(kube: Kube, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 2)
    dead = lease._taken(kube.api, lease.lease(layer), None, "somebody who was killed")
    assert dead is not None
    began = time.monotonic()
    with kube.lock(layer, timeout=20):
        assert time.monotonic() - began >= 1.5


def test_one_that_died_long_ago_is_not_waited_for(kube: Kube, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as past:
        past.setattr(lease, "_now", lambda: "2020-01-01T00:00:00.000000Z")
        lease._taken(kube.api, lease.lease(layer), None, "somebody")
    began = time.monotonic()
    with kube.lock(layer, timeout=20):
        assert time.monotonic() - began < 1.5
