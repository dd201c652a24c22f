"""The platform that a notebook works on: validated settings, the cluster they name, and the tools for both."""

from platformlib.targets.target import Target, bind, resolve

__all__ = ["Target", "bind", "resolve"]
