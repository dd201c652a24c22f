"""Matrices as pictures: green where it passes, pale where it does not, red where it is not as expected."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.plots import Picture

WRONG, CLOSED, OPEN = "#c0392b", "#eceff1", "#2e7d5b"
EMPTY = "there is nothing to compare"


def connectivity(matrix: "pd.DataFrame") -> "Picture":
    """A matrix of `truth.by_app`: rows connect to columns."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    from platformlib.plots.style import in_words, picture

    title = "Who reaches whom"
    if matrix.empty:
        return in_words(title, EMPTY)
    colors, norm = ListedColormap([WRONG, CLOSED, "#a5cdb8", OPEN]), BoundaryNorm([-1, -0.001, 0.001, 0.999, 1.001], 4)
    with picture(title, "rows connect to columns; green: open, pale: closed, red: not as the policies say",
                 height=1.6 + 0.24 * len(matrix)) as (made, axes):  # fmt: skip
        axes.pcolormesh(matrix.to_numpy(), cmap=colors, norm=norm, edgecolors="white", linewidth=1)
        axes.set_xticks([n + 0.5 for n in range(matrix.shape[1])], list(matrix.columns), rotation=90, fontsize=6)
        axes.set_yticks([n + 0.5 for n in range(len(matrix))], list(matrix.index), fontsize=7)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.grid(visible=False)
    return made
