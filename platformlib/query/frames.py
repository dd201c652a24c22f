"""Series to DataFrames: wide (a column each), long (a row each sample), and one row each series.

All have a UTC index named `time`, and `.attrs` that say what was asked and whether the answer is whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from platformlib.errors import QueryError
from platformlib.query.envelope import Labels
from platformlib.query.samples import Floats, Moments, Samples

RESERVED = frozenset({"time", "value"})
VALUE = pd.Index(["value"], dtype="str")


def index(times: Moments) -> pd.DatetimeIndex:
    """Milliseconds since 1970 as a UTC index."""
    return pd.DatetimeIndex(times.view("M8[ms]"), name="time").tz_localize("UTC")


def names_of(series: Sequence[Labels]) -> list[str]:
    """Every label name that occurs, sorted."""
    return sorted({name for labels in series for name, _ in labels})


def column_names(names: Sequence[str], reserved: frozenset[str] = RESERVED, prefix: str = "label_") -> dict[str, str]:
    """Each label's column; one whose name the frame itself needs gets `prefix` before it."""
    taken, columns = set(names) | reserved, {}
    for name in names:
        column = name
        while column in reserved or (column != name and column in taken):
            column = prefix + column
        taken.add(column)
        columns[name] = column
    return columns


def columns_of(series: Sequence[Labels], names: Sequence[str] | None = None) -> "pd.Index[Any]":
    """A level for each label; with one label its values, with none the word `value`."""
    known = names_of(series) if series else list(names or ())
    if len(known) > 1:
        rows = [dict(labels) for labels in series]
        levels = [[row.get(name, "") for row in rows] for name in known]
        return pd.MultiIndex.from_arrays(levels, names=known)
    if known:
        return pd.Index([dict(labels).get(known[0], "") for labels in series], dtype="str", name=known[0])
    return VALUE.repeat(len(series))


def wide(
    parts: Sequence[tuple[Moments, Mapping[Labels, Samples]]], *, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """One column each series, one row each moment of the windows' grids: a gap is a row of NaN, not a missing row.

    `parts` are stretches of time in order: their evaluation times, and what was found there.
    """
    series = sorted({labels for _, found in parts for labels in found})
    if not series:
        return pd.DataFrame(index=index(np.empty(0, np.int64)), columns=columns_of([], names), dtype=np.float64)
    times = _merged([_grid(*part) for part in parts])
    row = {labels: number for number, labels in enumerate(series)}
    whole = len(parts) == 1 and all(len(samples.times) == len(times) for samples in parts[0][1].values())
    shape = (len(series), len(times))
    values = np.empty(shape) if whole else np.full(shape, np.nan)  # what is written twice is paid twice
    last, places = None, slice(None)
    for _, found in parts:
        for labels, samples in found.items():
            if samples.times is not last:
                last, places = samples.times, _places(times, samples.times)
            values[row[labels], places] = samples.values
    return pd.DataFrame(values.T, index=index(times), columns=columns_of(series), copy=False)


def _grid(grid: Moments, found: Mapping[Labels, Samples]) -> Moments:
    """The moments of one part: the evaluation grid; a server that keeps another grid adds its own."""
    last: Moments | None = None
    strange: list[Moments] = []
    for samples in found.values():
        if samples.times is last:
            continue  # nearly all series of an answer share their times
        last = samples.times
        if not _lies_on(last, grid):
            strange.append(last)
    return _merged([grid, *strange]) if strange else grid


def _places(grid: Moments, times: Moments) -> Any:
    whole = len(grid) == len(times) and np.array_equal(grid, times)
    return slice(None) if whole else np.searchsorted(grid, times)


def _lies_on(times: Moments, grid: Moments) -> bool:
    if not len(times):
        return True
    places = np.searchsorted(grid, times)
    return bool(places[-1] < len(grid) and np.array_equal(grid[places], times))


def _merged(grids: Sequence[Moments]) -> Moments:
    return grids[0] if len(grids) == 1 else np.unique(np.concatenate(grids))


def long(found: Mapping[Labels, Samples], *, names: Sequence[str] = ()) -> pd.DataFrame:
    """One row each sample, series after series; labels are categorical columns, then `value`. A gap has no row."""
    series = sorted(found)
    known = names_of(series) or list(names)
    counts = [len(found[labels].times) for labels in series]
    times: Moments = np.concatenate([found[labels].times for labels in series] or [np.empty(0, np.int64)])
    values: Floats = np.concatenate([found[labels].values for labels in series] or [np.empty(0)])
    columns: dict[str, Any] = label_columns(series, known, np.repeat(np.arange(len(series)), counts))
    return pd.DataFrame(columns | {"value": values}, index=index(times))


def label_columns(series: Sequence[Labels], names: Sequence[str], rows: NDArray[np.intp]) -> dict[str, Any]:
    """A categorical column for each label; `rows` has each row's series."""
    sets, columns = [dict(labels) for labels in series], column_names(names)
    made: dict[str, Any] = {}
    for name in names:
        category = pd.Categorical([labels.get(name, "") for labels in sets])
        made[columns[name]] = pd.Categorical.from_codes(category.codes[rows], dtype=category.dtype)
    return made


def rows(values: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A table of `columns` from mappings, which may have more or fewer keys."""
    return pd.DataFrame([{name: row.get(name) for name in columns} for row in values], columns=list(columns))


def within(found: Mapping[Labels, Samples], start: int, end: int) -> None:
    """Refuse samples outside of the window that was asked for (milliseconds, both ends included)."""
    for samples in found.values():
        if len(samples.times) and (samples.times[0] < start or samples.times[-1] > end):
            raise QueryError("the answer has samples outside of the window that was asked for")
