"""Native histograms as a tidy frame: they are no floats, and never mixed with them."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Raw, Struct

from platformlib.query import frames
from platformlib.query.envelope import Labels, decode
from platformlib.query.samples import milliseconds

Bucket = tuple[int, str, str, str]  # which ends belong to it, lower, upper, count
RESERVED = frozenset({"time", "count", "sum", "lower", "upper", "bucket"})


class Histogram(Struct):
    """One native histogram, as the API writes it."""

    count: str
    sum: str
    buckets: list[Bucket] = []


def histogram_frame(found: Mapping[Labels, Sequence[Raw]]) -> pd.DataFrame:
    """A row each bucket, indexed by time: labels, count, sum, lower, upper, bucket (its own count)."""
    series = sorted(found)
    names = frames.column_names(frames.names_of(series), RESERVED)
    rows = list(chain.from_iterable(_rows(labels, names, text) for labels in series for text in found[labels]))
    columns = ["time", *names.values(), "count", "sum", "lower", "upper", "bucket"]
    frame = pd.DataFrame(rows, columns=columns)
    times = milliseconds(frame.pop("time").to_numpy(np.float64))
    numbers = dict.fromkeys(["count", "sum", "lower", "upper", "bucket"], np.float64)
    return frame.astype(numbers).set_index(frames.index(times))


def _rows(labels: Labels, names: Mapping[str, str], text: Raw) -> list[list[Any]]:
    """One row each bucket; a histogram without observations has one row whose bucket is NaN."""
    seconds, histogram = decode(text, tuple[float, Histogram])
    known = dict(labels)
    head = [seconds, *(known.get(name, "") for name in names), histogram.count, histogram.sum]
    return [[*head, *bucket[1:]] for bucket in histogram.buckets] or [[*head, "nan", "nan", "nan"]]
