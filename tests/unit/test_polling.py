"""One loop for every wait: how often it looks, when it ends; quantities as numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformlib import polling
from platformlib.polling import poll
from platformlib.quantities import amount


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(polling, "time", made)
    return made


def test_it_ends_with_the_first_true_answer(clock: Clock) -> None:
    answers = iter(["", "", "here", "too late"])
    assert poll(lambda: next(answers), timeout=60) == "here"
    assert len(clock.pauses) == 2


def test_it_looks_once_more_at_the_deadline_and_returns_the_last_answer(clock: Clock) -> None:
    seen: list[float] = []
    assert poll(lambda: seen.append(clock.now), timeout=7, interval=2, growing=False) is None
    assert seen == [0, 2, 4, 6, 7]


def test_without_time_it_looks_once(clock: Clock) -> None:
    assert poll(lambda: 0, timeout=0) == 0
    assert clock.pauses == []


def test_an_error_ends_it() -> None:
    def broken() -> bool:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        poll(broken, timeout=60)


@given(timeout=st.floats(0.1, 600), interval=st.floats(0.1, 10))
def test_growing_pauses_begin_short_and_stay_within_the_interval(timeout: float, interval: float) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polling, "time", clock)
        poll(lambda: False, timeout=timeout, interval=interval)
    assert clock.pauses == sorted(clock.pauses[:-1]) + clock.pauses[-1:]
    assert max(clock.pauses) <= interval
    assert clock.pauses[0] == pytest.approx(min(interval / 5, timeout))
    assert clock.now == pytest.approx(timeout)


@pytest.mark.parametrize(("text", "number"), [("500m", "0.5"), ("2Gi", 2**31), ("1k", 1000), ("0.1", "0.1"), (3, 3)])
def test_quantities(text: str | int, number: str | int) -> None:
    assert amount(text) == Decimal(number)


def test_what_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="2 GB"):
        amount("2 GB")
