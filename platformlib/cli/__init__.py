"""The command `platformlib`."""

from platformlib.cli.app import main

__all__ = ["main"]
