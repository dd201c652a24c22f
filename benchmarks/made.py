"""Made data for real servers: Prometheus's remote write in its wire format, and Loki's push."""

import struct
from collections.abc import Iterator, Mapping, Sequence

import httpx
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

REMOTE_WRITE = {
    "content-encoding": "snappy",
    "content-type": "application/x-protobuf",
    "x-prometheus-remote-write-version": "0.1.0",
}
BYTES = 8 << 20  # of one request, before compression
LINES = 25_000  # of one push


def varint(number: int) -> bytes:
    """A protobuf integer."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def label_pairs(labels: Mapping[str, str]) -> bytes:
    """Labels as Prometheus's messages have them, sorted by name."""
    return b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in sorted(labels.items()))


def exemplar(labels: Mapping[str, str], time: int, value: float) -> bytes:
    """An example of what a series counted, to stand behind the bytes of that series; `time` in milliseconds."""
    return field(3, label_pairs(labels) + b"\x11" + struct.pack("<d", value) + b"\x18" + varint(time))


def series(
    labels: Mapping[str, str], times: NDArray[np.int64], values: NDArray[np.float64], example: bytes = b""
) -> bytes:
    """One time series, with an exemplar or none; `times` in milliseconds."""
    names = label_pairs(labels)
    width = len(varint(int(times[0])))
    packed = np.zeros((len(times), 12 + width), np.uint8)
    packed[:, :3] = (0x12, 10 + width, 0x09)
    packed[:, 3:11] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    packed[:, 11] = 0x10
    for place in range(width):
        more = 0x80 if place < width - 1 else 0
        packed[:, 12 + place] = (times >> 7 * place & 0x7F) | more
    return field(1, names + packed.tobytes() + example)


def write(url: str, encoded: Iterator[bytes]) -> None:
    """Send series to a Prometheus, some megabytes a request."""
    batch: list[bytes] = []
    for one in encoded:
        batch.append(one)
        if sum(map(len, batch)) > BYTES:
            _send(url, batch)
            batch = []
    _send(url, batch)


def _send(url: str, batch: Sequence[bytes]) -> None:
    body = pa.compress(b"".join(batch), codec="snappy", asbytes=True)
    answer = httpx.post(f"{url}/api/v1/write", content=body, headers=REMOTE_WRITE, timeout=300, trust_env=False)
    if not answer.is_success:
        raise RuntimeError(f"remote write: {answer.status_code} {answer.text[:300]}")


def push(url: str, streams: Sequence[tuple[Mapping[str, str], Sequence[tuple[str, ...]]]]) -> None:
    """Send streams of (nanoseconds, line) to a Loki."""
    for labels, lines in streams:
        for first in range(0, len(lines), LINES):
            body = {"streams": [{"stream": labels, "values": lines[first : first + LINES]}]}
            answer = httpx.post(
                f"{url}/loki/api/v1/push",
                content=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
                timeout=300,
                trust_env=False,
            )
            if not answer.is_success:
                raise RuntimeError(f"push: {answer.status_code} {answer.text[:300]}")
