"""The platform that a notebook works on: validated, named, touched, and with every tool at hand."""

from platformlib.target.binding import bind
from platformlib.target.facade import Target
from platformlib.target.locate import resolve

__all__ = ["Target", "bind", "resolve"]
