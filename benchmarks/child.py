"""One measurement in a process of its own: `python -m benchmarks.child CASE ARGUMENT...` prints what it took.

Imports are done before the clock starts; they are a measurement of their own. The peak is of the whole process.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import engine_cases

Work = Callable[[], int]  # gives how many samples or lines there were


def decode_ours(path: str, start: str, end: str) -> Work:
    """An answer's bytes to a wide frame."""
    from platformlib.query import Answer, Prometheus

    class Canned:
        name = "canned"

        def get(self, path: str, params: Any, **_: Any) -> Answer:  # noqa: ARG002  whatever is asked
            return Answer(200, body, "application/json", params)

        def now(self) -> int:
            return time.time_ns()

        def close(self) -> None:
            """Nothing is open."""

    body = Path(path).read_bytes()
    prometheus = Prometheus(transport=Canned())
    return lambda: prometheus.query_range("m", start=float(start), end=float(end), step=60).size


def decode_peer(path: str, *_: str) -> Work:
    """The same bytes by prometheus-api-client: `json` and MetricRangeDataFrame."""
    from prometheus_api_client import MetricRangeDataFrame

    body = Path(path).read_bytes()
    return lambda: len(MetricRangeDataFrame(json.loads(body)["data"]["result"]))


def decode_floor(path: str, *_: str) -> Work:
    """The least that any client does: a typed decode, and no frame."""
    import msgspec

    class Series(msgspec.Struct):
        metric: dict[str, str]
        values: list[tuple[float, str]]

    class Data(msgspec.Struct):
        result: list[Series]

    class Envelope(msgspec.Struct):
        data: Data

    body = Path(path).read_bytes()
    return lambda: sum(len(one.values) for one in msgspec.json.decode(body, type=Envelope).data.result)


def range_ours(url: str, query: str, start: str, end: str) -> Work:
    """From a real Prometheus to a wide frame."""
    from platformlib.query import Prometheus, direct

    prometheus = Prometheus(transport=direct(url))
    return lambda: prometheus.query_range(query, start=float(start), end=float(end), step=60, timeout=300).size


def range_peer(url: str, query: str, start: str, end: str) -> Work:
    """The same by prometheus-api-client."""
    from datetime import UTC, datetime

    from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect

    prometheus = PrometheusConnect(url)
    first, last = (datetime.fromtimestamp(float(moment), UTC) for moment in (start, end))
    return lambda: len(MetricRangeDataFrame(prometheus.custom_query_range(query, first, last, "60")))


def lines_ours(url: str, query: str, start: str, end: str, counted: str) -> Work:
    """Every line to a frame; proven by the server's own count, or as the peer does it, without."""
    from platformlib.query import Loki

    loki = Loki(url, timeout=300)
    return lambda: len(loki.lines(query, start=float(start), end=float(end), proven=counted == "counted"))


def lines_peer(program: str, batch: str, *asked: str) -> Work:
    """Every line to a file, by logcli."""
    from datetime import UTC, datetime

    url, query, *window = asked
    first, last = (datetime.fromtimestamp(float(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for moment in window)
    command = [program, "query", query, f"--addr={url}", f"--from={first}", f"--to={last}", "--limit=0", "--forward"]
    options = [f"--batch={batch}", "--output=raw", "--quiet"]

    def work() -> int:
        written = Path(f"/tmp/logcli-{time.time_ns()}")  # noqa: S108  removed below
        with written.open("wb") as output:
            subprocess.run([*command, *options], stdout=output, stderr=subprocess.DEVNULL, check=True)
        count = written.read_bytes().count(b"\n")
        written.unlink()
        return count

    return work


CASES: dict[str, Callable[..., Work]] = {
    case.__name__: case
    for case in (decode_ours, decode_peer, decode_floor, range_ours, range_peer, lines_ours, lines_peer)
} | engine_cases.CASES


def main(name: str, *arguments: str) -> None:
    """Prepare, measure, print."""
    work = CASES[name](*arguments)
    before = _memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    count = work()
    took = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "count": count}
    other = resource.getrusage(resource.RUSAGE_CHILDREN)
    if other.ru_maxrss:  # the work was another program's
        took |= {
            "cpu": other.ru_utime + other.ru_stime,
            "peak": other.ru_maxrss * 1024,
            "added": other.ru_maxrss * 1024,
        }
    else:
        took |= {"peak": _memory("VmHWM"), "added": _memory("VmHWM") - before}
    print(json.dumps(took))


def _memory(what: str) -> int:
    """Bytes that this process holds (VmRSS), or held at most since it began (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
