"""What proves each layer: by use, not by looking at what was applied."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib.checks import Check
from platformlib.layers.proofs import cluster, observability, security, storage
from platformlib.layers.proofs.context import Context
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.kube import Kube

PROOFS: dict[str, Callable[[Context], list[Check]]] = {
    "cluster": cluster.checks,
    "security": security.checks,
    "storage": storage.checks,
    "observability": observability.checks,
}


def proofs(layer: str, settings: Settings, kube: "Kube") -> list[Check]:
    """The checks of a layer."""
    return PROOFS[layer](Context(settings, kube))
