"""Measure all of it: `python -m benchmarks [--repeats N] [decode server large growth lines imports]`.

It needs the programs of the bundle (prometheus, loki, logcli), or PLATFORMLIB_TEST_BINARIES=FOLDER that has them.
"""

import os
import platform
import random
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import local, made
from benchmarks.report import measure, table

NOW = int(time.time()) // 3600 * 3600
MILLION = 1_000_000


def answer(folder: Path, series: int, points: int) -> tuple[str, str, str]:
    """A range query's answer as a file, and its window."""
    rng, first = random.Random(1), NOW - points * 60  # noqa: S311
    parts = []
    for number in range(series):
        values = ",".join(f'[{first + 60 * k},"{rng.random() * 1e6!r}"]' for k in range(points))
        parts.append(f'{{"metric":{{"__name__":"m","instance":"10.0.0.{number}:9100"}},"values":[{values}]}}')
    body = '{"status":"success","data":{"resultType":"matrix","result":[' + ",".join(parts) + "]}}"
    path = folder / f"{series}x{points}.json"
    path.write_text(body)
    return str(path), str(first), str(first + 60 * (points - 1))


def decode(repeats: int, folder: Path) -> str:
    """From the answer's bytes to a frame."""
    given = answer(folder, 500, 1440)
    size = Path(given[0]).stat().st_size / 1e6
    cases = {name: [case, *given] for name, case in (("prometheus-api-client", "decode_peer"), ("platformlib", "decode_ours"), ("floor: typed decode, no frame", "decode_floor"))}  # fmt: skip # noqa: E501
    return table(
        f"500 series x 1,440 points, {size:.0f} MB of JSON, to a frame",
        measure(cases, repeats),
        "prometheus-api-client",
    )


def growth(repeats: int, folder: Path) -> str:
    """Ten times the samples."""
    sizes = ((50, 1440), (500, 1440), (5000, 1440))
    cases = {f"{series:,} x {points:,}": ["decode_ours", *answer(folder, series, points)] for series, points in sizes}
    found = measure(cases, repeats)
    first, second, third = found.values()
    times = f"{second.median('cpu') / first.median('cpu'):.1f} and {third.median('cpu') / second.median('cpu'):.1f}"
    memory = (
        f"{second.median('peak') / first.median('peak'):.1f} and {third.median('peak') / second.median('peak'):.1f}"
    )
    return (
        table("Growth", found, None)
        + f"\n\nTen times the samples take {times} times the time, {memory} times the memory."
    )


@contextmanager
def prometheus(folder: Path, series: int, points: int) -> Iterator[list[str]]:
    """A real Prometheus with made data, and what asks for all of it."""
    place = folder / f"prometheus-{series}"
    place.mkdir()
    rng, first = np.random.default_rng(1), NOW - points * 60
    times = (np.arange(points, dtype=np.int64) * 60 + first) * 1000
    with local.prometheus(needed("prometheus"), place) as url:
        labels = ({"__name__": "m", "instance": f"10.0.0.{k}:9100", "job": "made"} for k in range(series))
        made.write(url, (made.series(one, times, rng.random(points) * 1e6) for one in labels))
        yield [url, "m", str(first), str(first + 60 * (points - 1))]


def server(repeats: int, folder: Path) -> str:
    """From a real server to a frame."""
    with prometheus(folder, 500, 1440) as given:
        cases = {"prometheus-api-client": ["range_peer", *given], "platformlib": ["range_ours", *given]}
        return table(
            "500 series x 1,440 points from a real Prometheus", measure(cases, repeats), "prometheus-api-client"
        )


def large(repeats: int, folder: Path) -> str:
    """What must fit into 2 GiB."""
    with prometheus(folder, 5000, 2880) as given:
        found = measure({"platformlib": ["range_ours", *given]}, max(1, repeats // 2))
    return table("5,000 series x 2,880 points from a real Prometheus", found, None)


def lines(repeats: int, folder: Path) -> str:
    """A million lines."""
    parts = []
    for name, limits in (("the platform's limits", local.PLATFORM_LIMITS), ("a foreign Loki's default limits", "")):
        place = folder / f"loki-{bool(limits)}"
        place.mkdir()
        with local.loki(needed("loki"), place, limits=limits) as url:
            fill(url)
            given = [url, '{app="bench"}', str(NOW - 3600), str(NOW)]
            cases = {"logcli, batch 5,000": ["lines_peer", str(needed("logcli")), "5000", *given]}
            if limits:
                cases["logcli, batch 50,000"] = ["lines_peer", str(needed("logcli")), "50000", *given]
            cases["platformlib, not counted, as logcli"] = ["lines_ours", *given, "uncounted"]
            cases["platformlib, proven by a count"] = ["lines_ours", *given, "counted"]
            found = measure(cases, repeats)
        if not all(one.median("count") == MILLION for one in found.values()):
            raise RuntimeError(f"lines are missing: { {name: one.median('count') for name, one in found.items()} }")
        parts.append(table(f"1,000,000 lines of 100 bytes, {name}", found, "logcli, batch 5,000"))
    return "\n".join(parts)


def fill(url: str) -> None:
    """A million lines of 100 bytes in ten streams over an hour."""
    rng = random.Random(1)  # noqa: S311
    levels = ["info"] * 8 + ["warn", "error"]
    streams = []
    for stream in range(10):
        rows = []
        for number in range(MILLION // 10):
            line = f"level={rng.choice(levels)} stream={stream} line={number} {rng.getrandbits(256):064x}".ljust(
                100, "."
            )[:100]
            rows.append((str((NOW - 3600) * 10**9 + number * 36 * 10**6), line))
        streams.append(({"app": "bench", "namespace": "made", "pod": f"pod-{stream}"}, rows))
    made.push(url, streams)


def imports(repeats: int, _: Path) -> str:
    """What `import platformlib` adds to bare Python."""
    runs = [(_import("pass"), _import("import platformlib")) for _ in range(2 * max(5, repeats))]
    bare, ours = ([run[which] for run in runs] for which in (0, 1))
    more, least = median(ours) - median(bare), min(ours) - min(bare)
    return f"\n### Import\n\n`import platformlib` takes {more:.3f} s beyond bare Python (least: {least:.3f} s)."


def _import(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def needed(name: str) -> Path:
    """A program, or the word what is missing."""
    if (found := local.binary(name)) is None:
        raise SystemExit(f"no {name}: build the bundle, or set {local.BINARIES}=FOLDER")
    return found


PARTS: dict[str, Callable[[int, Path], str]] = {
    part.__name__: part for part in (decode, server, large, growth, lines, imports)
}


def main() -> None:
    """Measure the chosen parts, and print a table of each as it is done."""
    parser = ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load} when it began.")
    print(
        "Ratios and seconds are the least, the middle and the greatest of runs in which peer and ours took turns.",
        flush=True,
    )
    for name in chosen.parts or PARTS:
        with TemporaryDirectory(prefix="benchmarks-") as folder:
            print(PARTS[name](chosen.repeats, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
