"""The ordered layers of a platform: what each needs, what it consists of, when it is ready, what proves it."""

from platformlib.layers.installed import Installed, Stack
from platformlib.layers.model import Layer, chosen, layer, layers
from platformlib.layers.render import render, stages

__all__ = ["Installed", "Layer", "Stack", "chosen", "layer", "layers", "render", "stages"]
