"""Prometheus's answers as typed structures: the envelope, its series, its warnings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from platformlib.errors import QueryError
from platformlib.query.samples import Samples, read
from platformlib.query.transport import Answer

Labels = tuple[tuple[str, str], ...]  # sorted by name
EMPTY = Raw(b"[]")
NOTHING = Raw(b"null")
Kind = TypeVar("Kind")


class Series(Struct):
    """One series of a matrix or vector; the parts that are large stay text."""

    metric: dict[str, str] = {}
    values: Raw = EMPTY
    value: Raw = NOTHING
    histograms: Raw = EMPTY
    histogram: Raw = NOTHING


class Data(Struct):
    """What a query found: `result` is a list of series, or for a scalar or string one pair."""

    resultType: str  # noqa: N815  the API's own name
    result: list[Series]


class Literal(Struct):
    """A scalar's or string's answer."""

    resultType: str  # noqa: N815
    result: tuple[float, str]


class Envelope(Struct, Generic[Kind]):
    """What surrounds each answer."""

    status: str
    data: Kind | None = None
    error: str = ""
    warnings: list[str] = []
    infos: list[str] = []


@dataclass(frozen=True)
class Found:
    """Series by their labels: floats, and native histograms as text kept apart."""

    series: dict[Labels, Samples]
    histograms: dict[Labels, list[Raw]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def data(answer: Answer, kind: type[Kind]) -> tuple[Kind, tuple[str, ...]]:
    """The `data` of an answer as `kind`, and the server's warnings.

    Raises:
        QueryError: it is cut off, not JSON, or not of that kind.
    """
    envelope = decode(answer.body, Envelope[kind])  # type: ignore[valid-type]
    if envelope.status != "success":
        raise QueryError(f"the server answered {envelope.status!r}: {envelope.error or 'no reason given'}")
    if envelope.data is None and kind is not object:
        raise QueryError("the server's answer has no data")
    content: Any = envelope.data
    return content, (*envelope.warnings, *envelope.infos)


def decode(body: bytes | bytearray | Raw, kind: type[Kind]) -> Kind:
    """JSON as `kind`, or an error that shows how it begins."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        begins = bytes(memoryview(body)[:80])
        raise QueryError(
            f"an answer that cannot be read: {error}; it has {len(memoryview(body))} bytes and begins {begins!r}"
        ) from None


def labels_of(metric: dict[str, str]) -> Labels:
    """A series' identity, whatever order its labels came in."""
    return tuple(sorted(metric.items()))


def matrix(answer: Answer) -> Found:
    """The series of a range."""
    content, notes = data(answer, Data)
    if content.resultType != "matrix":
        raise QueryError(f"expected a matrix, got a {content.resultType!r}")
    return _found(content.result, [series.values for series in content.result], notes)


def _found(result: Sequence[Series], texts: Sequence[Raw], notes: tuple[str, ...]) -> Found:
    names = [labels_of(series.metric) for series in result]
    if len(set(names)) != len(names):
        raise QueryError("an answer that has two series with the same labels")
    floats = dict(zip(names, read(texts), strict=True))
    apart = {name: _histograms(series) for name, series in zip(names, result, strict=True)}
    return Found(
        {name: samples for name, samples in floats.items() if len(samples.times) or not apart[name]},
        {name: found for name, found in apart.items() if found},
        notes,
    )


def _histograms(series: Series) -> list[Raw]:
    if bytes(series.histogram) != b"null":
        return [series.histogram]
    return decode(series.histograms, list[Raw])


def instant(answer: Answer) -> tuple[str, Found]:
    """An instant query's kind and series; a scalar or string is one series without labels."""
    content, notes = data(answer, dict[str, Raw])
    kind = decode(content.get("resultType", NOTHING), str)
    if kind in ("scalar", "string"):
        return kind, Found({}, {}, notes)
    if kind not in ("vector", "matrix"):
        raise QueryError(f"an unknown type of result: {kind!r}")
    result = decode(content.get("result", NOTHING), list[Series])
    if kind == "matrix":
        return kind, _found(result, [series.values for series in result], notes)
    texts = [Raw(b"[" + bytes(series.value) + b"]") if bytes(series.value) != b"null" else EMPTY for series in result]
    if any(text is EMPTY and bytes(series.histogram) == b"null" for text, series in zip(texts, result, strict=True)):
        raise QueryError("a series of the vector has no value")
    return kind, _found(result, texts, notes)


def literal(answer: Answer) -> tuple[float, str]:
    """Time (seconds) and text of a scalar or string."""
    return data(answer, Literal)[0].result


def plain(answer: Answer) -> tuple[Any, tuple[str, ...]]:
    """`data` as plain Python values."""
    return data(answer, object)
