"""Runs notebooks by papermill: strict parameters, a journal, resume, live progress."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platformlib.errors import CellFailed, RunInterrupted
    from platformlib.runbook.events import Event
    from platformlib.runbook.execute import Run, run
    from platformlib.runbook.page import export

_HOMES = {
    "CellFailed": "errors",
    "Event": "runbook.events",
    "Run": "runbook.execute",
    "RunInterrupted": "errors",
    "export": "runbook.page",
    "run": "runbook.execute",
}

__all__ = ["CellFailed", "Event", "Run", "RunInterrupted", "export", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'platformlib.runbook' has no attribute {name!r}")
    return getattr(import_module(f"platformlib.{_HOMES[name]}"), name)
