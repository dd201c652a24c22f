"""Recording and replay: the same code without a server.

A cassette is one file of a folder: the question, and the answer's bytes, compressed and with secrets scrubbed.

A question is found again by its *shape*: path, parameters, and for times only the window's length and how many
windows its end lies before now. So "the last hour" of a recording answers "the last hour" of today; the answer
carries the recorded times, and so does the frame. Of several answers of one shape that differ in their moments (pages),
the nearest one to the moment that was asked for is taken; the same question asked again is its last answer.
"""

import json
import re
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Unpack

from platformlib.durations import SECOND
from platformlib.errors import NotRecorded
from platformlib.query.transport import Answer, How, Params, Transport

TIMES = ("start", "end", "time")
REDACTED = b"REDACTED"
SECRETS = re.compile(
    rb"(?i:bearer|basic)\s+(?P<a>[A-Za-z0-9._~+/=-]{16,})"
    rb"|(?P<b>eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
    rb"|(?P<c>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----)"
    rb"|(?i:password|passwd|secret|token|api[-_]?key)\\*[\"']?\s*[=:]\s*\\*[\"']?(?P<d>[^\s\"'\\&,;}]{6,})"
    rb"|://[^/\s:@\"]+:(?P<e>[^/\s@\"]+)@"
    rb"|(?P<f>AKIA[0-9A-Z]{16})",
    re.DOTALL,
)


def scrub(content: bytes | bytearray) -> bytes:
    """The content with what looks like a credential replaced."""

    def redact(found: re.Match[bytes]) -> bytes:
        start, end = found.span(str(found.lastgroup))
        return found[0][: start - found.start()] + REDACTED + found[0][end - found.start() :]

    return SECRETS.sub(redact, content)


def _nanoseconds(value: Any) -> int:
    """A time parameter: Loki's are whole nanoseconds, Prometheus's seconds."""
    number = str(value)
    return int(number) if number.isdigit() and len(number) > 15 else round(float(number) * SECOND)  # noqa: PLR2004


def _times(params: Params) -> dict[str, int]:
    return {key: _nanoseconds(params[key]) for key in TIMES if params.get(key)}


def shape(path: str, params: Params, now: int) -> str:
    """A short digest of what makes two questions the same, whenever they are asked."""
    times = _times(params)
    last = times.get("end", times.get("time", now))
    length = last - times.get("start", last)
    ago = round((now - last) / max(length / 2, 60 * SECOND))
    rest = sorted((key, value) for key, value in params.items() if key not in TIMES)
    asked = json.dumps([path, rest, length, ago, sorted(times)], default=list)
    return sha256(scrub(asked.encode())).hexdigest()[:16]


class Cassettes:
    """The files of one source in a folder: `<shape>-<end>.zst`, a line of JSON and then the answer's bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, path: str, answer: Answer, now: int) -> None:
        """Keep one answer; the last of its kind wins."""
        from zstandard import ZstdCompressor

        last = max(_times(answer.params).values(), default=now)
        key = shape(path, answer.params, now)
        asked = {"path": path, "params": dict(answer.params), "now": now, "status": answer.status}
        head = scrub(json.dumps(asked | {"type": answer.content_type}, default=list).encode())
        for before in self.folder.glob(f"{key}-*.zst"):
            if abs(int(before.stem.split("-")[1]) - last) < SECOND:
                before.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        packed = ZstdCompressor(level=9).compress(head + b"\n" + scrub(answer.body))
        (self.folder / f"{key}-{last}.zst").write_bytes(packed)

    def load(self, path: str, params: Params, now: int) -> Answer:
        """The recorded answer nearest to the question's moment. Raises NotRecorded, which names the question."""
        wanted = max(_times(params).values(), default=now)
        files = self.folder.glob(f"{shape(path, params, now)}-*.zst")
        found = min(files, key=lambda file: abs(int(file.stem.split("-")[1]) - wanted), default=None)
        if found is None:
            asked = scrub(json.dumps(dict(params), default=list).encode()).decode()
            raise NotRecorded(
                f"{self.folder} has no answer to {path} {asked}", fix="record it: PLATFORMLIB_RECORD=FOLDER"
            )
        head, body = self._read(found)
        return Answer(head["status"], body, head["type"], head["params"])

    @cached_property
    def now(self) -> int:
        """The moment of the last recording."""
        moments = [self._read(file)[0]["now"] for file in self.folder.glob("*.zst")]
        if not moments:
            raise NotRecorded(f"nothing is recorded in {self.folder}", fix="record it: PLATFORMLIB_RECORD=FOLDER")
        return int(max(moments))

    @staticmethod
    def _read(file: Path) -> tuple[dict[str, Any], bytes]:
        from zstandard import ZstdDecompressor

        head, body = ZstdDecompressor().decompress(file.read_bytes()).split(b"\n", 1)
        return json.loads(head), body


class Recording:
    """A transport that keeps what passes through it. Headers, and so credentials, are never kept."""

    def __init__(self, inner: Transport, folder: str | Path) -> None:
        self.name, self._inner, self._cassettes = inner.name, inner, Cassettes(Path(folder))

    def get(self, path: str, params: Params, **how: Unpack[How]) -> Answer:
        """The answer of the transport within, kept before it is given."""
        now = self._inner.now()
        answer = self._inner.get(path, params, **how)
        self._cassettes.save(path, answer, now)
        return answer

    def now(self) -> int:
        """The clock of the transport within."""
        return self._inner.now()

    def close(self) -> None:
        """Close the transport within."""
        self._inner.close()


class Replay:
    """A transport that answers from recordings; its clock stands at the last one."""

    def __init__(self, folder: str | Path, *, name: str = "") -> None:
        self._cassettes = Cassettes(Path(folder))
        self.name = name or f"recordings in {folder}"

    def get(self, path: str, params: Params, **_: Unpack[How]) -> Answer:
        """The recorded answer. Raises NotRecorded."""
        return self._cassettes.load(path, params, self.now())

    def now(self) -> int:
        """The moment of the last recording."""
        return self._cassettes.now

    def close(self) -> None:
        """Nothing is open."""
