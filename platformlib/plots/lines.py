"""Values over time: lines, and areas that add up. A gap in the data is a gap in the picture."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from platformlib.plots.reduce import reduced
from platformlib.plots.style import OTHERS, PALETTE, legend, time_axis
from platformlib.plots.units import axis_name, formatter, locator

FEW = 50  # others that are drawn as lines; more become a band


def times(frame: pd.DataFrame) -> Any:
    """The index as matplotlib reads it: UTC without saying so."""
    return pd.DatetimeIndex(frame.index).tz_convert("UTC").tz_localize(None).to_numpy()


def value_axis(axes: Axes, unit: str) -> None:
    """Ticks and name of the upright axis."""
    axes.yaxis.set_major_locator(locator(unit))
    axes.yaxis.set_major_formatter(formatter(unit))
    axes.set_ylabel(axis_name(unit))


def series(axes: Axes, frame: pd.DataFrame, unit: str, top: int) -> None:
    """A line each of the largest, the others behind them in grey: lines, or when they are many the band they fill."""
    kept, when = reduced(frame, top), times(frame)
    if 0 < kept.others.shape[1] <= FEW:
        lines = axes.plot(when, kept.others.to_numpy(), color=OTHERS, linewidth=0.6, zorder=1)
        lines[0].set_label(kept.others_name)
    elif kept.others.shape[1]:
        low, high = kept.others.min(axis=1), kept.others.max(axis=1)
        axes.fill_between(when, low, high, color=OTHERS, alpha=0.45, linewidth=0, label=kept.others_name, zorder=1)
    for number in range(kept.top.shape[1]):
        line(
            axes, when, kept.top.iloc[:, number], PALETTE[number % len(PALETTE)], "-" if number < len(PALETTE) else "--"
        )
    axes.set_ylim(*limits(kept.top, kept.others, unit))
    finish(axes, frame, unit)


def line(axes: Axes, when: Any, values: "pd.Series[float]", color: str, style: str) -> None:
    """One series; a sample that has no neighbour is a dot, since a line would not show it."""
    axes.plot(when, values, style, color=color, linewidth=1.6, label=str(values.name), zorder=2)
    known = values.notna().to_numpy()
    padded = np.concatenate([[False], known, [False]])
    alone = known & ~padded[:-2] & ~padded[2:]
    axes.plot(when[alone], values[alone], ".", color=color, markersize=4, zorder=2)


def limits(top: pd.DataFrame, others: pd.DataFrame, unit: str) -> tuple[float, float]:
    """From zero, or from the lowest value when there are negative ones, with air above; never without length."""
    found = [part.to_numpy() for part in (top, others) if part.size and part.notna().to_numpy().any()]
    high = max((float(np.nanmax(part)) for part in found), default=0.0)
    low = min((float(np.nanmin(part)) for part in found), default=0.0)
    if high <= 0 and low >= 0:
        return 0.0, 0.01 if unit == "ratio" else 1.0
    return min(0.0, low * 1.08), max(0.0, high * 1.08)


def area(axes: Axes, frame: pd.DataFrame, unit: str, top: int) -> None:
    """Shares that add up, the largest at the bottom, the others summed on top."""
    kept, when = reduced(frame, top), times(frame)
    parts = (
        kept.top.assign(**{kept.others_name: kept.others.sum(axis=1, min_count=1)}) if kept.others.size else kept.top
    )
    known = parts.notna().any(axis=1).to_numpy()
    upper = parts.fillna(0).clip(lower=0).cumsum(axis=1)
    for number, name in enumerate(parts.columns):
        below = upper.iloc[:, number - 1] if number else 0
        color = OTHERS if kept.others.size and number == len(parts.columns) - 1 else PALETTE[number % len(PALETTE)]
        layer = upper.iloc[:, number]
        axes.fill_between(
            when, below, layer, where=known, color=color, alpha=0.85, linewidth=0.4, edgecolor="white", label=name
        )
    axes.set_ylim(*limits(upper, pd.DataFrame(), unit))
    finish(axes, frame, unit, reverse=True)


def finish(axes: Axes, frame: pd.DataFrame, unit: str, *, reverse: bool = False) -> None:
    """What all pictures over time share."""
    value_axis(axes, unit)
    time_axis(axes)
    if window := frame.attrs.get("window"):
        ends = pd.DatetimeIndex(window).tz_convert("UTC").to_pydatetime()
        first, last = map(float, date2num(ends))  # type: ignore[no-untyped-call]
        if first < last:
            axes.set_xlim(first, last)
    legend(axes, reverse=reverse)
