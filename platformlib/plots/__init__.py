"""DataFrames to pictures that read well in JupyterLab, on a rendered page, and on paper."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platformlib.plots.draw import plot
    from platformlib.plots.reduce import summary
    from platformlib.plots.style import Picture

_HOMES = {"Picture": "style", "plot": "draw", "summary": "reduce"}

__all__ = ["Picture", "plot", "summary"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'platformlib.plots' has no attribute {name!r}")
    return getattr(import_module(f"platformlib.plots.{_HOMES[name]}"), name)
