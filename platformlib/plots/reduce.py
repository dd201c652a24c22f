"""From thousands of series to what a person can read: the largest by name, the others counted."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

TOP = 10


@dataclass(frozen=True)
class Reduced:
    """The largest series, named; and the others."""

    top: pd.DataFrame
    others: pd.DataFrame

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


def names(columns: "pd.Index[str]") -> list[str]:
    """A name for each series: the values of the labels that differ, and of labels that are all there is."""
    if columns.nlevels == 1:
        return [str(name) or "(none)" for name in columns]
    levels = [str(name) for name in columns.names]
    differing = [level for level in levels if columns.get_level_values(level).nunique() > 1]
    chosen = differing or levels[:1]
    rows = zip(*(columns.get_level_values(level) for level in chosen), strict=True)
    return [" / ".join(str(part) for part in row if str(part)) or "(none)" for row in rows]


def reduced(frame: pd.DataFrame, top: int = TOP) -> Reduced:
    """The `top` series of largest mean, largest first; one too many is shown rather than called "others (1)"."""
    values = wide(frame).astype(np.float64)
    values.columns = pd.Index(names(values.columns), dtype="str")
    finite = values.where(np.isfinite(values))
    order = finite.mean().fillna(-np.inf).to_numpy().argsort(kind="stable")[::-1]
    count = top if len(order) > top + 1 else len(order)
    return Reduced(finite.iloc[:, order[:count]], finite.iloc[:, order[count:]])


def summary(frame: pd.DataFrame, top: int = TOP) -> pd.DataFrame:
    """The table beside the picture: a row each series, with last, mean, min, max; the others as one row.

    Returns:
        Indexed by series name, largest mean first.
    """
    kept = reduced(frame, top)
    rows = [
        _row(kept.top[name] if kept.top.columns.is_unique else kept.top.iloc[:, k]) for k, name in enumerate(kept.top)
    ]
    made = pd.DataFrame(rows, index=pd.Index(kept.top.columns, name="series"), columns=["last", "mean", "min", "max"])
    if kept.others.shape[1]:
        made.loc[kept.others_name] = _row(kept.others.mean(axis=1))
    made.attrs = dict(frame.attrs)
    return made


def _row(values: "pd.Series[float]") -> list[float]:
    known = values.dropna()
    last = float(known.iloc[-1]) if len(known) else np.nan
    return [last, float(known.mean()), float(known.min()), float(known.max())]
