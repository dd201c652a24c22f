"""One look for all pictures: quiet axes, a palette that colour-blind people tell apart, times in UTC."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

# Okabe and Ito's colours, reordered so that neighbours differ in lightness too.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#B8A800", "#5D6D7E", "#7B3F00")
OTHERS, INK, QUIET, GRID, MISSING = "#B8BEC4", "#1F2933", "#66717D", "#E4E7EB", "#F0F2F4"
SEVERITIES: Mapping[str, str] = {"info": "#0072B2", "warning": "#E69F00", "error": "#D55E00"}
LEVELS: Mapping[str, str] = {
    "critical": "#8B1A1A",
    "fatal": "#A83232",
    "error": "#D55E00",
    "warn": "#E69F00",
    "info": "#0072B2",
    "debug": "#7FB3D5",
    "trace": "#BBD3E3",
    "unknown": "#B8BEC4",
}
MAP = "cividis"
WIDTH, HEIGHT = 9.6, 3.4  # inches
LONGEST = 38  # letters of a name beside a picture
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    # A dollar or underscore of a label is itself, not mathematics.
    "text.parse_math": False,
}


class Picture(Figure):
    """A matplotlib figure that shows itself as PNG wherever notebooks are shown, whatever the backend."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        with rc_context(STYLE):
            self.savefig(content, format="png", dpi=self.dpi, bbox_inches="tight", pad_inches=0.12)
        return content.getvalue()


@contextmanager
def picture(title: str, subtitle: str = "", *, height: float = HEIGHT) -> Iterator[tuple[Picture, Axes]]:
    """A figure with one pair of axes under a title, while its style holds."""
    with rc_context(STYLE):
        made = Picture(figsize=(WIDTH, height), layout="constrained")
        axes = made.subplots()
        if title:
            axes.set_title(title, loc="left", fontweight="bold", fontsize=11.5, pad=20 if subtitle else 8)
        if subtitle:
            axes.annotate(subtitle, (0, 1), (0, 6), "axes fraction", "offset points", color=QUIET, fontsize=8.5)
        yield made, axes


def time_axis(axes: Axes) -> None:
    """Times in UTC, said beside the axis, as short as they can be."""
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("UTC", loc="right", fontsize=8.5)
    axes.margins(x=0)
    axes.grid(visible=True, axis="y")


def legend(axes: Axes, *, reverse: bool = False) -> None:
    """The names to the right of the axes, where they cover nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels or labels == ["value"]:
        return
    order = slice(None, None, -1 if reverse else 1)
    axes.legend(
        handles[order],
        list(map(short, labels[order])),
        loc="upper left",
        bbox_to_anchor=(1.005, 1.02),
        handlelength=1.2,
    )


def short(name: str) -> str:
    """A long name without its middle, since both ends tell names apart."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"


def in_words(title: str, sentence: str) -> Picture:
    """A picture of a sentence: what there is to say about no data."""
    with picture(title, height=1.1) as (made, axes):
        axes.set_axis_off()
        axes.text(0, 0.5, sentence, va="center", color=QUIET, wrap=True, transform=axes.transAxes)
    return made
