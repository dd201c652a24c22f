"""Matrices as pictures: green where it passes, pale where it does not, a red cross where it is not as expected."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.plots import Picture

EMPTY = "There is nothing to compare."


def connectivity(matrix: "pd.DataFrame") -> "Picture":
    """A matrix of `truth.by_app`: rows connect to columns."""
    from platformlib.plots.grids import matrix as drawn
    from platformlib.plots.picture import Picture, Sentence

    title = "Who reaches whom"
    if matrix.empty:
        return Sentence(title, EMPTY)
    return Picture(
        drawn(matrix, title, "rows connect to columns; green: open, pale: closed, red cross: not as declared")
    )
