"""The platform that a notebook works on: validated, named, touched, and with every tool at hand."""

from platformlib.targets.binding import bind
from platformlib.targets.facade import Target
from platformlib.targets.locate import resolve

__all__ = ["Target", "bind", "resolve"]
