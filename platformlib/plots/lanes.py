"""Events as marks in lanes: one lane for each object's kind and namespace, colour by severity."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from platformlib.plots.lines import times
from platformlib.plots.style import GRID, SEVERITIES, legend, time_axis

LANES = 14


def lane_names(frame: pd.DataFrame) -> "pd.Series[str]":
    """Such as "Pod storage"."""
    return (frame["kind"].astype("str") + " " + frame["namespace"].fillna("").astype("str")).str.strip()


def lanes(axes: Axes, frame: pd.DataFrame, _: str, __: int) -> None:
    """The lanes with most happening by name, the others in one lane together."""
    names = lane_names(frame)
    busy = names.value_counts()
    kept = list(busy.index[: LANES if len(busy) > LANES + 1 else len(busy)])
    rest = f"others ({len(busy) - len(kept)})"
    shown = [*sorted(kept), rest] if len(busy) > len(kept) else sorted(kept)
    place = {name: number for number, name in enumerate(shown)}
    rows = names.map(lambda name: place.get(name, len(shown) - 1)).to_numpy(np.float64)
    when, severity = times(frame), frame["severity"].astype("str").to_numpy()
    for number, (name, color) in enumerate(SEVERITIES.items()):
        chosen = severity == name
        if chosen.any():
            label = f"{name} ({chosen.sum()})"
            # Severities lie a little apart, so that an error is not hidden under what came with it.
            axes.scatter(
                when[chosen], rows[chosen] + (number - 1) * 0.18, s=26, color=color, alpha=0.8, linewidth=0, label=label
            )
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    time_axis(axes)
    axes.grid(visible=True, axis="y", color=GRID)
    axes.margins(x=0.02)
    legend(axes, reverse=True)


def height(frame: pd.DataFrame) -> float:
    """Inches that the lanes need."""
    return 1.4 + 0.27 * min(lane_names(frame).nunique(), LANES + 1)
