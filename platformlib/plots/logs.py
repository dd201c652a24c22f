"""Log volume by level: bars that add up, errors at the bottom where they are seen first."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from platformlib.plots.lines import finish, limits, times
from platformlib.plots.reduce import wide
from platformlib.plots.style import LEVELS

BINS = 120
LEVEL = "detected_level"


def levels(axes: Axes, frame: pd.DataFrame, unit: str, _: int) -> None:
    """Lines in each stretch of time; `frame` has the lines themselves, or counts by level."""
    counts = counted(frame) if "line" in frame.columns else wide(frame)
    counts = ordered(counts.fillna(0))
    when: Any = times(counts)
    width = np.median(np.diff(when)) if len(when) > 1 else np.timedelta64(60, "s")
    # A count at a moment is of the stretch before it; lines are counted from a moment on.
    edges = np.append(when, when[-1] + width) - (width if "line" not in frame.columns else np.timedelta64(0))
    below = np.zeros(len(counts))
    for name in counts.columns:
        above = below + counts[name].to_numpy(np.float64)
        color = LEVELS.get(str(name), LEVELS["unknown"])
        steps: Any = {"step": "post", "color": color, "label": str(name), "linewidth": 0}
        axes.fill_between(edges, np.append(below, below[-1]), np.append(above, above[-1]), **steps)
        below = above
    axes.set_ylim(*limits(pd.DataFrame(below), pd.DataFrame(), unit))
    finish(axes, frame, unit, reverse=True)


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Lines as counts by level in about 120 stretches of the window that was asked for."""
    start, end = (
        pd.Timestamp(moment) for moment in frame.attrs.get("window") or (frame.index.min(), frame.index.max())
    )
    width = max(pd.Timedelta(seconds=1), ((end - start) / BINS).ceil("s"))
    level = frame[LEVEL].astype("str") if LEVEL in frame.columns else pd.Series("unknown", index=frame.index)
    bins = pd.DatetimeIndex(frame.index).floor(width)
    counts = pd.crosstab(bins, level.replace("", "unknown").to_numpy())
    whole = pd.date_range(start.floor(width), end, freq=width, name="time")
    return counts.reindex(whole.union(pd.DatetimeIndex(counts.index)), fill_value=0)


def ordered(counts: pd.DataFrame) -> pd.DataFrame:
    """The gravest level first; what is no level last. Different spellings of one level are one column."""
    spelled = {"warning": "warn", "err": "error", "crit": "critical", "information": "info", "": "unknown"}
    named = counts.rename(columns=lambda name: spelled.get(str(name).lower(), str(name).lower()))
    rank = {name: place for place, name in enumerate(LEVELS)}
    grouped = named.T.groupby(level=0).sum().T
    return grouped[sorted(grouped.columns, key=lambda name: (rank.get(str(name), len(rank)), str(name)))]
