"""From thousands of series to what a person can read: the largest by name, the others counted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

TOP = 10
ALWAYS = frozenset({"pod", "node", "container"})  # labels that stay in a name even when all series share them


@dataclass(frozen=True)
class Reduced:
    """The largest series, named; the others; and for each of the largest what it is called in every picture."""

    top: pd.DataFrame
    others: pd.DataFrame
    keys: tuple[str, ...]

    @property
    def others_name(self) -> str:
        """Such as "others (490)"."""
        return f"others ({self.others.shape[1]})"


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column each series, whatever shape it has."""
    if "value" not in frame.columns or frame.columns.nlevels > 1 or len(frame.columns) == 1:
        return frame
    labels = [name for name in frame.columns if name != "value"]
    made = frame.reset_index().pivot_table("value", "time", labels, observed=True, dropna=False, sort=False)
    return made.dropna(axis=1, how="all")


def labels_of(frame: pd.DataFrame) -> "pd.Index[Any]":
    """The labels of each series of a wide frame, or of each row of a long one."""
    if "value" not in frame.columns or frame.columns.nlevels > 1:
        return frame.columns
    labels = frame.drop(columns="value").astype("str")
    if labels.shape[1] > 1:
        return pd.MultiIndex.from_frame(labels)
    return pd.Index(labels.iloc[:, 0]) if labels.shape[1] else pd.Index(["value"] * len(frame))


def names(columns: "pd.Index[Any]") -> list[str]:
    """A name for each series: the values of the labels that differ, and of those that tell what it is."""
    if columns.nlevels == 1:
        return [str(name) or "(none)" for name in columns]
    shared = shared_labels(columns)
    kept = [level for level in map(str, columns.names) if level not in shared]
    rows = zip(*(columns.get_level_values(level) for level in kept), strict=True)
    return [" / ".join(str(part) for part in row if str(part)) or "(none)" for row in rows]


def shared_labels(columns: "pd.Index[Any]") -> dict[str, str]:
    """Labels with one value in all series, which the subtitle tells instead of each name."""
    if columns.nlevels == 1 or len(columns) < 2:  # noqa: PLR2004  a lone series is named in full
        return {}
    found = {str(level): columns.get_level_values(str(level)).unique() for level in columns.names}
    return {name: str(values[0]) for name, values in found.items() if len(values) == 1 and name not in ALWAYS}


def keys(columns: "pd.Index[Any]") -> list[str]:
    """What decides a series' colour: its pod, else all its labels; the same in every picture that has it."""
    if columns.nlevels == 1:
        return [str(name) for name in columns]
    own = [name for name in ("pod", "container") if name in columns.names]
    if "pod" in own:
        return [
            "/".join(parts)
            for parts in zip(*(columns.get_level_values(name).astype("str") for name in own), strict=True)
        ]
    return ["/".join(map(str, labels)) for labels in columns]


def reduced(frame: pd.DataFrame, top: int = TOP) -> Reduced:
    """The `top` series of largest mean, largest first; one too many is shown rather than called "others (1)"."""
    values = wide(frame).astype(np.float64)
    called = keys(values.columns)
    values.columns = pd.Index(names(values.columns), dtype="str")
    finite = values.where(np.isfinite(values))
    order = finite.mean().fillna(-np.inf).to_numpy().argsort(kind="stable")[::-1]
    count = top if len(order) > top + 1 else len(order)
    kept = order[:count]
    return Reduced(finite.iloc[:, kept], finite.iloc[:, order[count:]], tuple(called[place] for place in kept))


def summary(frame: pd.DataFrame, top: int = TOP) -> pd.DataFrame:
    """The numbers of a picture: a row each series, with last, mean, min, max; the others as one row.

    Returns:
        Indexed by series name, largest mean first.
    """
    kept = reduced(frame, top)
    rows = [_row(kept.top.iloc[:, place]) for place in range(kept.top.shape[1])]
    made = pd.DataFrame(rows, index=pd.Index(kept.top.columns, name="series"), columns=["last", "mean", "min", "max"])
    if kept.others.shape[1]:
        made.loc[kept.others_name] = _row(kept.others.mean(axis=1))
    made.attrs = dict(frame.attrs)
    return made


def _row(values: "pd.Series[float]") -> list[float]:
    known = values.dropna()
    last = float(known.iloc[-1]) if len(known) else np.nan
    return [last, float(known.mean()), float(known.min()), float(known.max())]
