"""Binaries, root file systems and container images, built from the pins of `versions.yaml`.

Nothing here needs a container engine, an image registry of others, or a Go installation: Go modules and Debian packages
come from their package registries, checked by go.sum and by Debian's signatures.
"""

from platformlib.bundle.facade import Artifact, Bundle
from platformlib.bundle.recipe import Event, Recipe, Tool, Workspace

__all__ = ["Artifact", "Bundle", "Event", "Recipe", "Tool", "Workspace"]
