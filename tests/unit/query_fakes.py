"""Servers in memory, as strict as the real ones where it matters: grids, limits, ends of windows."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from platformlib.query.transport import Answer, Params

Labels = tuple[tuple[str, str], ...]
EXACT = re.compile(r'(\w+)=("(?:\\.|[^"\\])*")')
PLAIN = "plain"
NOW = 1_763_914_800 * 10**9


def text_of(value: float) -> str:
    """A sample's value as Prometheus writes it."""
    return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(repr(float(value)), repr(float(value)))


def ok(data: Any, **more: Any) -> bytes:
    """A successful answer."""
    return json.dumps({"status": "success", "data": data, **more}, ensure_ascii=False).encode()


@dataclass
class Server:
    """A transport that makes its answers, and remembers the questions."""

    name: str = "fake"
    asked: list[tuple[str, Params]] = field(default_factory=list)

    def made(self, path: str, params: Params) -> bytes | Answer:
        raise NotImplementedError

    def get(self, path: str, params: Params, **_: Any) -> Answer:
        self.asked.append((path, params))
        made = self.made(path, params)
        return made if isinstance(made, Answer) else Answer(200, made, "application/json", params)

    def now(self) -> int:
        return NOW

    def close(self) -> None:
        pass


class Fake(Server):
    """Answers by a function."""

    def __init__(self, answer: Callable[[str, Params], bytes | Answer]) -> None:
        super().__init__()
        self._answer = answer

    def made(self, path: str, params: Params) -> bytes | Answer:
        return self._answer(path, params)


@dataclass
class FakePrometheus(Server):
    """Samples by series; a range query gives those that lie on its grid."""

    samples: Mapping[Labels, Mapping[int, float]] = field(default_factory=dict)  # milliseconds -> value

    def made(self, _: str, params: Params) -> bytes:
        start, end, step = (round(float(str(params[key])) * 1000) for key in ("start", "end", "step"))
        assert (end - start) // step < 11_000, "more points than Prometheus gives"
        result = []
        for labels, samples in self.samples.items():
            inside = [time for time in samples if start <= time <= end and (time - start) % step == 0]
            values = [[time / 1000, text_of(samples[time])] for time in sorted(inside)]
            if values:
                result.append({"metric": dict(labels), "values": values})
        return ok({"resultType": "matrix", "result": result})


@dataclass(frozen=True)
class Line:
    """A line as Loki holds it."""

    time: int
    stream: Labels
    text: str
    metadata: Labels = ()


@dataclass
class FakeLoki(Server):
    """Lines, a limit, and Loki's ways: start inside, end outside, the first of all streams up to the limit."""

    lines: list[Line] = field(default_factory=list)
    most: int = 5000
    lies: int = 0  # added to each count
    volume: bool = True

    def get(self, path: str, params: Params, **how: Any) -> Answer:
        """A question that does not ask for metadata apart is marked as such; several come at the same time."""
        marked = params if how.get("headers") else {**params, PLAIN: "yes"}
        return replace(super().get(path, marked, **how), params=params)

    def made(self, path: str, params: Params) -> bytes | Answer:
        if path.endswith("/series"):
            return ok([dict(stream) for stream in {line.stream for line in self._between(params)}])
        if path.endswith("/index/volume_range"):
            return self._volume(params) if self.volume else Answer(404, b"not found", "text/plain", params)
        if path.endswith("/index/stats"):
            inside = self._between(params)
            return json.dumps({"entries": len(inside), "bytes": sum(len(line.text) for line in inside)}).encode()
        if path.endswith("/query"):
            return self._count(params)
        return self._lines(params)

    def _between(self, params: Params) -> list[Line]:
        wanted = {name: json.loads(value) for name, value in EXACT.findall(str(params.get("query", "")))}
        return [
            line
            for line in self.lines
            if int(str(params["start"])) <= line.time < int(str(params["end"]))
            and all(dict(line.stream).get(name, "") == value for name, value in wanted.items())
        ]

    def _lines(self, params: Params) -> bytes | Answer:
        limit = int(str(params["limit"]))
        if limit > self.most:
            said = f"max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {self.most})"
            return Answer(400, said.encode(), "text/plain", params)
        backward = params["direction"] == "backward"
        chosen = sorted(self._between(params), key=lambda line: line.time, reverse=backward)[:limit]
        streams: dict[Labels, list[Any]] = {}
        for line in chosen:
            if PLAIN in params:
                together = tuple(sorted({**dict(line.metadata), **dict(line.stream)}.items()))
                streams.setdefault(together, []).append([str(line.time), line.text])
                continue
            extra = {"structuredMetadata": dict(line.metadata)} if line.metadata else {}
            streams.setdefault(line.stream, []).append([str(line.time), line.text, extra])
        result = [{"stream": dict(stream), "values": values} for stream, values in streams.items()]
        flags = [] if PLAIN in params else ["categorize-labels"]
        return ok({"resultType": "streams", "encodingFlags": flags, "result": result})

    def _count(self, params: Params) -> bytes:
        time, query = int(str(params["time"])), str(params["query"])
        length = int(query.rsplit("[", 1)[1].split("ms]", maxsplit=1)[0]) * 10**6
        count = sum(time - length < line.time <= time for line in self.lines) + self.lies
        result = [{"metric": {}, "value": [time / 1e9, str(count)]}] if count else []
        return ok({"resultType": "vector", "result": result})

    def _volume(self, params: Params) -> bytes:
        step = int(str(params["step"]).removesuffix("s")) * 10**9
        sums: dict[int, int] = {}
        for line in self._between(params):
            bucket = (line.time - int(str(params["start"]))) // step
            last = (int(str(params["start"])) + (bucket + 1) * step) // 10**6 - 1
            sums[last] = sums.get(last, 0) + len(line.text)
        values = [[last / 1000, str(size)] for last, size in sorted(sums.items())]
        result = [{"metric": {}, "values": values}] if values else []
        return ok({"resultType": "matrix", "result": result})
