"""A real Prometheus and a real Loki of the bundle as local processes, with made data; skipped where not built."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import stamina
from numpy.typing import NDArray

from benchmarks import local, made
from platformlib.query import Http, Loki, Prometheus, direct

POINTS, STEP = 720, 15  # three hours of samples
STREAMS = [{"app": app, "namespace": "made", "pod": f"{app}-{k}"} for app in ("web", 'q"ü') for k in range(3)]


@dataclass(frozen=True)
class Samples:
    """What was put into Prometheus."""

    prometheus: Prometheus
    url: str
    times: NDArray[np.int64]  # milliseconds
    values: NDArray[np.float64]  # one row each series, named by its number in the label `i`


@dataclass(frozen=True)
class Lines:
    """What was put into Loki."""

    loki: Loki
    url: str
    start: int  # seconds
    end: int
    lines: list[tuple[int, str, str]]  # nanosecond, pod, text


def program(name: str) -> Path:
    if (found := local.binary(name)) is None:
        pytest.skip(f"{name} is not built: platformlib bundle build, or {local.BINARIES}=FOLDER")
    return found


@pytest.fixture(autouse=True)
def _retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    rng, last = np.random.default_rng(3), int(time.time()) // STEP * STEP - 60
    times = (last - STEP * np.arange(POINTS, dtype=np.int64)[::-1]) * 1000
    values = rng.normal(size=(20, POINTS)) * 10.0 ** rng.integers(-12, 12, (20, 1))
    values[0, ::7], values[1, ::5], values[2, ::3] = np.nan, np.inf, -np.inf
    with local.prometheus(program("prometheus"), tmp_path_factory.mktemp("prometheus")) as url:
        labels = ({"__name__": "made", "i": str(k), "odd": 'a"b\\\nü'} for k in range(20))
        made.write(url, (made.series(one, times, row) for one, row in zip(labels, values, strict=True)))
        example = made.exemplar({"trace_id": 'a"b'}, int(times[-1]), 2.5)
        made.write(url, iter([made.series({"__name__": "explained", "i": "1"}, times, values[5], example)]))
        gap = np.flatnonzero((np.arange(POINTS) < 300) | (np.arange(POINTS) > 400))
        made.write(url, iter([made.series({"__name__": "gap"}, times[gap], values[5, gap])]))
        transport = direct(url)
        scraped(Prometheus(transport=transport))
        yield Samples(Prometheus(transport=transport), url, times, values)
        transport.close()


def scraped(prometheus: Prometheus) -> None:
    """Wait until the server has measured itself, and its alert fires."""
    deadline = time.monotonic() + 60
    wanted = "rate(prometheus_tsdb_head_samples_appended_total[1m]) and on() ALERTS"
    while prometheus.query(wanted).empty:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing was scraped: {prometheus.targets()}")
        time.sleep(0.5)


@contextmanager
def loki_with(lines: list[tuple[int, str, str]], folder: Path, limits: str) -> Iterator[Lines]:
    """A Loki that has taken the lines."""
    with local.loki(program("loki"), folder, limits=limits) as url:
        for stream in STREAMS:
            own = [(str(at), text, {"trace": f"t{at % 3}"}) for at, pod, text in lines if pod == stream["pod"]]
            made.push(url, [(stream, own)])  # type: ignore[list-item]
        transport: Http = direct(url)
        yield Lines(Loki(transport), url, lines[0][0] // 10**9, lines[-1][0] // 10**9 + 1, lines)
        transport.close()


def made_lines(count: int) -> list[tuple[int, str, str]]:
    """Lines in order of time; every third nanosecond is shared by many lines of all streams."""
    rng, start = random.Random(5), (int(time.time()) - 1800) * 10**9
    found = []
    for number in range(count):
        at = start + number // 200 * 10**9 if number % 3 else start + number // 40 * 10**8
        level = rng.choice(["info", "info", "warn", "error"])
        found.append((at, rng.choice(STREAMS)["pod"], f'level={level} msg="line {number} ü \\" end"'))
    return sorted(found)


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    """A Loki with the platform's limits."""
    with loki_with(made_lines(60_000), tmp_path_factory.mktemp("loki"), local.PLATFORM_LIMITS) as lines:
        yield lines


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    """A Loki with its own default limits: 5,000 lines a query."""
    with loki_with(made_lines(23_000), tmp_path_factory.mktemp("foreign"), "") as lines:
        yield lines
