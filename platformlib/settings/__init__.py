"""What to build: a parameters file as strict, typed settings. Never a secret."""

from platformlib.settings.load import load
from platformlib.settings.models import LAYERS, Node, Settings

__all__ = ["LAYERS", "Node", "Settings", "load"]
