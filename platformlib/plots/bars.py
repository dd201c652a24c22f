"""One moment: bars with their values, and plain tables."""

import pandas as pd
from matplotlib.axes import Axes

from platformlib.plots.style import GRID, INK, OTHERS, PALETTE, QUIET
from platformlib.plots.units import axis_name, formatted, formatter, locator

ROWS, COLUMNS, CELL = 20, 8, 38


def bar(axes: Axes, frame: pd.DataFrame, unit: str, top: int) -> None:
    """The largest values as bars, each with its number; the others counted and named."""
    values = named(frame).sort_values(ascending=False, kind="stable")
    count = top if len(values) > top + 1 else len(values)
    shown, rest = values.iloc[:count], values.iloc[count:]
    axes.barh(range(count), shown, color=PALETTE[0], height=0.68)
    for place, value in enumerate(shown):
        axes.annotate(
            formatted(value, unit), (max(value, 0), place), (4, 0), "data", "offset points", va="center", fontsize=9
        )
    labels = list(map(str, shown.index))
    if len(rest):
        low, high = (formatted(value, unit) for value in (rest.min(), rest.max()))
        axes.barh(count, rest.max(), color=OTHERS, height=0.68)
        axes.annotate(
            f"{low} to {high}", (rest.max(), count), (4, 0), "data", "offset points", va="center", color=QUIET
        )
        labels.append(f"others ({len(rest)})")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(locator(unit, whole=bool((values % 1 == 0).all())))
    axes.xaxis.set_major_formatter(formatter(unit))
    axes.set_xlabel(axis_name(unit))
    axes.set_xlim(left=min(0.0, float(values.min())))
    axes.margins(x=0.12)
    axes.grid(visible=True, axis="x", color=GRID)


def named(frame: pd.DataFrame) -> "pd.Series[float]":
    """A value for each series, named by its labels; of a wide frame the last one known."""
    if "value" not in frame.columns or frame.columns.nlevels > 1:
        from platformlib.plots.reduce import names

        last = frame.ffill().iloc[-1]
        return pd.Series(last.to_numpy(), index=names(frame.columns)).dropna()
    labels = frame.drop(columns="value").astype("str")
    rows = [" / ".join(part for part in row if part) or "value" for row in labels.itertuples(index=False, name=None)]
    return pd.Series(frame["value"].astype(float).to_numpy(), index=rows).dropna()


def height(frame: pd.DataFrame, top: int) -> float:
    """Inches that the bars need."""
    return 1.3 + 0.27 * min(max(frame.shape) if "value" not in frame.columns else len(frame), top + 1)


def table(axes: Axes, frame: pd.DataFrame, unit: str, _: int) -> None:
    """The first rows and columns as text; what is left out is counted."""
    shown = frame.reset_index(drop=frame.index.name is None).iloc[:ROWS, :COLUMNS]
    cells = [[_cell(value, unit) for value in row] for row in shown.itertuples(index=False, name=None)]
    axes.set_axis_off()
    made = axes.table(
        cells, colLabels=[str(name) for name in shown.columns], loc="upper left", cellLoc="left", edges="horizontal"
    )
    made.auto_set_font_size(False)
    made.set_fontsize(8.5)
    made.auto_set_column_width(list(range(shown.shape[1])))
    for (row, _column), cell in made.get_celld().items():
        cell.set_edgecolor(GRID)
        cell.get_text().set(fontweight="bold" if row == 0 else "normal", color=INK)
    left = len(frame) - len(shown)
    if left > 0:
        axes.text(0, -0.02, f"and {left} more rows", color=QUIET, fontsize=8.5, va="top", transform=axes.transAxes)


def _cell(value: object, unit: str) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return formatted(value, unit)
    text = str(value).replace("\n", " ")
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def table_height(frame: pd.DataFrame) -> float:
    """Inches that the rows need."""
    return 1.0 + 0.24 * min(len(frame) + 1, ROWS + 1)
