"""DataFrames to pictures and tables that read well in JupyterLab, light and dark, on a page, and in words."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platformlib.plots.draw import plot
    from platformlib.plots.live import watch
    from platformlib.plots.logview import Log
    from platformlib.plots.picture import Picture
    from platformlib.plots.reduce import summary
    from platformlib.plots.style import declare
    from platformlib.plots.tables import Table, show_tables

_HOMES = {
    "Log": "logview",
    "Picture": "picture",
    "Table": "tables",
    "declare": "style",
    "plot": "draw",
    "show_tables": "tables",
    "summary": "reduce",
    "watch": "live",
}

__all__ = ["Log", "Picture", "Table", "declare", "plot", "show_tables", "summary", "watch"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'platformlib.plots' has no attribute {name!r}")
    return getattr(import_module(f"platformlib.plots.{_HOMES[name]}"), name)
