"""Heat maps: many series as rows, or a histogram's buckets over time."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from platformlib.plots.lines import times
from platformlib.plots.reduce import names, reduced, wide
from platformlib.plots.style import MAP, MISSING, time_axis
from platformlib.plots.units import axis_name, formatted, formatter

ROWS = 30


def heat(axes: Axes, frame: pd.DataFrame, unit: str, top: int) -> None:
    """A row each series, the largest on top; the others' mean is the last row. What is missing is blank."""
    kept = reduced(frame, max(top, ROWS))
    rows = kept.top
    if kept.others.shape[1]:
        rows = rows.assign(**{f"mean of {kept.others_name}": kept.others.mean(axis=1)})
    mesh(axes, rows, unit, list(map(str, rows.columns)))
    axes.invert_yaxis()


def buckets(axes: Axes, frame: pd.DataFrame, unit: str, _: int) -> None:
    """How many observations fall between a bucket's bounds: the answer's cumulative counts, told apart."""
    values = wide(frame).astype(np.float64)
    values.columns = pd.Index([float(name) for name in names(values.columns)])
    values = values.sort_index(axis=1)
    apart = values.diff(axis=1)
    apart.iloc[:, 0] = values.iloc[:, 0]
    used = (apart > 0).any().to_numpy().nonzero()[0]
    shown = apart.iloc[:, used[0] : used[-1] + 1] if len(used) else apart
    bounds = [
        f"≤ {formatted(bound, 'seconds')}" if np.isfinite(bound) else "longer" for bound in map(float, shown.columns)
    ]
    mesh(axes, shown.clip(lower=0), unit, bounds)


def mesh(axes: Axes, rows: pd.DataFrame, unit: str, labels: list[str]) -> None:
    """Coloured cells with a scale beside them."""
    when: Any = times(rows)
    width = np.median(np.diff(when)) if len(when) > 1 else np.timedelta64(15, "s")
    edges = np.append(when, when[-1] + width)
    colors = colormaps[MAP].with_extremes(bad=MISSING)
    content = np.ma.masked_invalid(rows.to_numpy().T)
    low = min(0.0, float(content.min())) if content.count() else 0.0
    high = float(content.max()) if content.count() and content.max() > low else low + 1
    drawn = axes.pcolormesh(
        edges, np.arange(len(labels) + 1), content, cmap=colors, vmin=low, vmax=high, rasterized=True
    )
    every = -(-len(labels) // (2 * ROWS))
    axes.set_yticks(
        np.arange(len(labels))[::every] + 0.5, labels[::every], fontsize=8.5 if len(labels) < ROWS * 2 // 3 else 6.5
    )
    axes.tick_params(axis="y", length=0)
    time_axis(axes)
    axes.grid(visible=False)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.015, aspect=18)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(formatter(unit))
    bar.set_label(axis_name(unit))
