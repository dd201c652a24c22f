"""The platform that a notebook works on: validated settings, the cluster they name, and the tools for both."""

from platformlib.settings.locate import resolve
from platformlib.targets.target import Target, bind

__all__ = ["Target", "bind", "resolve"]
