"""Pairs of time and value, from JSON text to arrays.

`[1763914800,"0.5"],[1763914815.25,"NaN"]` has a narrow grammar, so that it can be read as CSV, ten times faster than
as objects. Whatever is not exactly of that grammar goes through a strict decoder instead, which accepts or refuses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from platformlib.errors import QueryError

Floats = NDArray[np.float64]
Moments = NDArray[np.int64]  # milliseconds since 1970
Text = Any  # a memoryview of JSON; its stubs do not compare with bytes
BATCH = 1 << 20  # bytes of JSON read at once: fits a processor's cache, and keeps the peak low
LATEST = 253_402_300_800_000  # milliseconds: the year 10000

# `,[t,"v"],[t,"v"]` becomes rows `,t,v` by dropping quotes and opening brackets, and ending rows at closing ones.
_ROWS, _DROPPED = bytes.maketrans(b"]", b"\n"), b'["'
_OPEN, _QUOTE, _COMMA, _CLOSE = b'[",]'
_READ = csv.ReadOptions(column_names=["", "time", "value"], use_threads=False, block_size=4 * BATCH)
_PARSE = csv.ParseOptions(quote_char=False, escape_char=False)
_CONVERT = csv.ConvertOptions(
    column_types={"time": pa.float64(), "value": pa.float64()},
    include_columns=["time", "value"],
    null_values=[],
    strings_can_be_null=False,
)
_POOL = pa.system_memory_pool()  # Arrow's own gives memory back after every batch, and asks for it again
_strict = msgspec.json.Decoder(list[tuple[float, str]])


@dataclass(frozen=True)
class Samples:
    """The samples of one series, in the order of time."""

    times: Moments
    values: Floats


def read(raw: Sequence[msgspec.Raw]) -> list[Samples]:
    """The samples of each `values` array of JSON.

    Raises:
        QueryError: something in it is no pair of a time and a number in quotes.
    """
    found: list[Samples] = []
    batch: list[Text] = []
    size = 0
    for one in raw:
        # Raw is a buffer, which its stubs do not say.
        text: Text = memoryview(one)
        batch.append(text)
        size += len(text)
        if size > BATCH:
            _keep(found, _batch(batch))
            batch, size = [], 0
    _keep(found, _batch(batch))
    return found


def _keep(kept: list[Samples], found: list[Samples]) -> None:
    """Neighbours with equal times hold one array, so that a batch's own is free at once: nearly all series have it."""
    for samples in found:
        same = kept and np.array_equal(kept[-1].times, samples.times)
        kept.append(Samples(kept[-1].times, samples.values) if same else samples)


def _batch(texts: list[Text]) -> list[Samples]:
    filled = [text for text in texts if len(text) > len("[]")]
    fast = _fast(filled) if filled else []
    if fast is None:
        return [_slow(bytes(text)) for text in texts]
    ready = iter(fast)
    return [next(ready) if len(text) > len("[]") else _slow(bytes(text)) for text in texts]


def _fast(texts: list[Text]) -> list[Samples] | None:
    """All texts as one CSV, or None when they are not plainly that."""
    if not all(text[:2] == b"[[" and text[-3:] == b'"]]' for text in texts):
        return None
    content = b"," + b",".join([text[1:-1] for text in texts])
    quotes = _quotes(content)
    if quotes is None:
        return None
    ends = np.cumsum([len(text) - 1 for text in texts])
    edges = np.searchsorted(quotes, ends) // 2
    rows = pa.BufferReader(content.translate(_ROWS, _DROPPED))
    try:
        table = csv.read_csv(rows, _READ, _PARSE, _CONVERT, memory_pool=_POOL)
    except pa.ArrowInvalid:
        return None
    seconds, values = (column.to_numpy() for column in table.columns)
    # A number too large for a float would be read as infinite, which only the server may say.
    infinite = np.count_nonzero(np.isinf(values))
    if len(values) != len(quotes) // 2 or (infinite and infinite != content.count(b"Inf")):
        return None
    return _split(milliseconds(seconds), values, edges)


def _quotes(content: bytes) -> NDArray[np.intp] | None:
    """Where quotes are; None unless each pair of them is the second half of one pair in brackets."""
    letters = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    plain = (
        len(quotes) % 2 == 0
        and len(quotes) == 2 * np.count_nonzero(letters == _OPEN)
        and bool((letters[quotes[::2] - 1] == _COMMA).all())
        and bool((letters[quotes[1::2] + 1] == _CLOSE).all())
    )
    return quotes if plain else None


def _split(times: Moments, values: Floats, edges: NDArray[np.intp]) -> list[Samples]:
    """Each series' own samples; `edges` are their ends."""
    later = np.diff(times) > 0
    later[edges[:-1] - 1] = True
    make = Samples if later.all() else _ordered
    starts = [0, *edges[:-1].tolist()]
    return [make(times[first:last], values[first:last]) for first, last in zip(starts, edges.tolist(), strict=True)]


def _slow(text: bytes) -> Samples:
    try:
        pairs = _strict.decode(text)
        values = np.array([number(value) for _, value in pairs], np.float64)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as error:
        raise QueryError(f"samples that cannot be read: {error}: {text[:60]!r}") from None
    return _ordered(milliseconds(np.array([time for time, _ in pairs], np.float64)), values)


def number(text: str) -> float:
    """A sample's value as Prometheus writes it; refuses what only Python takes for a number."""
    value = float(text)
    if not text.isascii() or "_" in text or text != text.strip() or (np.isinf(value) and "Inf" not in text):
        raise ValueError(f"not a sample value: {text[:40]!r}")
    return value


def milliseconds(seconds: Floats) -> Moments:
    """Times as the API writes them, exact to the millisecond. Raises QueryError for what is no time."""
    times = np.rint(seconds * 1000)
    if not np.all(np.abs(times) < LATEST):
        raise QueryError("a sample's time is no time between the years 0 and 10000")
    return times.astype(np.int64)


def _ordered(times: Moments, values: Floats) -> Samples:
    steps = np.diff(times)
    if np.all(steps > 0):
        return Samples(times, values)
    order: Any = np.argsort(times, kind="stable")
    if np.any(np.diff(times[order]) == 0):
        raise QueryError("one series has two samples of one time")
    return Samples(times[order], values[order])
