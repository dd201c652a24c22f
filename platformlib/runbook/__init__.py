"""Runs notebooks by papermill: strict parameters, a journal, resume, live progress."""

from platformlib.errors import CellFailed
from platformlib.runbook.events import Event
from platformlib.runbook.execute import Run, run

__all__ = ["CellFailed", "Event", "Run", "run"]
