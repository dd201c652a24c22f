"""Loki's streams, from JSON to columns: times, lines, and codes into tables of labels and metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from msgspec import Raw, Struct
from numpy.typing import NDArray

from platformlib.errors import QueryError
from platformlib.query.envelope import Labels, data, decode, labels_of
from platformlib.query.frames import column_names, names_of
from platformlib.query.transport import Answer

CATEGORIZE = {"x-loki-response-encoding-flags": "categorize-labels"}
Codes = NDArray[np.int64]


class Stream(Struct):
    """One stream; its lines stay text until their form is known."""

    stream: dict[str, str]
    values: Raw


class Streams(Struct):
    """What a log query found."""

    resultType: str  # noqa: N815
    result: list[Stream]
    encodingFlags: list[str] = []  # noqa: N815


class Extra(Struct):
    """What a line has beside its stream's labels."""

    structuredMetadata: dict[str, str] = {}  # noqa: N815
    parsed: dict[str, str] = {}


Key = tuple[Labels, Labels, Labels]  # stream labels, structured metadata, parsed labels


@dataclass(frozen=True)
class Page:
    """Lines with their times (nanoseconds) and, as codes into `keys`, all their labels."""

    times: Codes
    lines: Any  # pyarrow array of text
    codes: Codes
    keys: tuple[Key, ...]

    def __len__(self) -> int:
        return len(self.times)

    def where(self, kept: NDArray[np.bool_]) -> "Page":
        """The lines that `kept` marks."""
        return Page(self.times[kept], self.lines.filter(pa.array(kept)), self.codes[kept], self.keys)

    def in_time(self, *, backward: bool = False) -> "Page":
        """The lines by their time, the earliest first or the latest; those of one nanosecond in the server's order."""
        if not backward and bool(np.all(self.times[1:] >= self.times[:-1])):
            return self
        order = np.argsort(self.times, kind="stable")
        order = order[::-1] if backward else order
        return Page(self.times[order], self.lines.take(pa.array(order)), self.codes[order], self.keys)


def page(answer: Answer) -> Page:
    """The lines of one answer, in its order. Raises QueryError when it is broken or no log query's."""
    content, _ = data(answer, Streams)
    if content.resultType != "streams":
        raise QueryError(f"expected log lines, got a {content.resultType!r}", fix="use query() or query_range()")
    extra = "categorize-labels" in content.encodingFlags
    return joined([_stream(stream, extra) for stream in content.result])


def _stream(stream: Stream, extra: bool) -> Page:
    labels = labels_of(stream.stream)
    entries: list[tuple[Any, ...]]
    if extra:
        entries = list(decode(stream.values, list[tuple[str, str, Raw]]))
        seen: dict[bytes, int] = {}
        codes = [seen.setdefault(bytes(entry[2]), len(seen)) for entry in entries]
        keys = tuple((labels, *_extra(text)) for text in seen)
    else:
        entries = list(decode(stream.values, list[tuple[str, str]]))
        codes, keys = [0] * len(entries), ((labels, (), ()),)
    return Page(_times(entries), _text([entry[1] for entry in entries]), np.array(codes, np.int64), keys)


def _text(lines: list[str]) -> Any:
    return pa.array(lines, pa.large_string())


def _times(entries: Sequence[tuple[Any, ...]]) -> Codes:
    try:
        numbers: Codes = pa.array([entry[0] for entry in entries], pa.string()).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise QueryError(f"a line's time that is no count of nanoseconds: {error}") from None
    return numbers


def _extra(text: bytes) -> tuple[Labels, Labels]:
    extra = decode(Raw(text), Extra)
    return labels_of(extra.structuredMetadata), labels_of(extra.parsed)


def joined(pages: Sequence[Page]) -> Page:
    """Several pages as one; the same labels share one code."""
    table: dict[Key, int] = {}
    codes = [_recoded(page, table) for page in pages]
    if not pages:
        return Page(np.empty(0, np.int64), _text([]), np.empty(0, np.int64), ())
    lines = pa.chunked_array([chunk for page in pages for chunk in _chunks(page.lines)], pa.large_string())
    return Page(np.concatenate([page.times for page in pages]), lines, np.concatenate(codes), tuple(table))


def _chunks(lines: Any) -> Any:
    return lines.chunks if isinstance(lines, pa.ChunkedArray) else [lines]


def _recoded(page: Page, table: dict[Key, int]) -> Codes:
    own = np.array([table.setdefault(key, len(table)) for key in page.keys], np.int64)
    return own[page.codes] if len(own) else page.codes


def frame(found: Page, *, backward: bool = False, labels: Sequence[str] = ()) -> pd.DataFrame:
    """A row each line, by time: `line`, then labels, structured metadata and parsed labels as categorical columns."""
    found = found.in_time(backward=backward)
    names = [names_of([key[part] for key in found.keys]) for part in range(3)]
    names[0] = names[0] or list(labels)
    columns: dict[str, Any] = {"line": text_column(found.lines)}
    kept: list[list[str]] = []
    for part, (known, prefix) in enumerate(zip(names, ("label_", "metadata_", "parsed_"), strict=True)):
        chosen = column_names(known, frozenset({"time", *columns}), prefix)
        columns |= _columns([dict(key[part]) for key in found.keys], chosen, found.codes)
        kept.append(list(chosen.values()))
    index = pd.DatetimeIndex(found.times.view("M8[ns]"), name="time").tz_localize("UTC")
    made = pd.DataFrame(columns, index=index)
    made.attrs |= dict(zip(("labels", "metadata", "parsed"), kept, strict=True))
    return made


def _columns(rows: Sequence[Mapping[str, str]], names: Mapping[str, str], codes: Codes) -> dict[str, Any]:
    made = {}
    for name, column in names.items():
        category = pd.Categorical(np.array([row.get(name, "") for row in rows], dtype=object))
        made[column] = pd.Categorical.from_codes(category.codes[codes], dtype=category.dtype)
    return made


def text_column(lines: Any) -> Any:
    """Text as pandas keeps it, without a Python object a line."""
    kind: Any = pd.StringDtype("pyarrow", na_value=np.nan)
    return kind.__from_arrow__(lines)
