"""What a parameters file means, without touching anything."""

from typing import TYPE_CHECKING

from platformlib.layers.model import layer
from platformlib.settings import Settings
from platformlib.targets.scope import Scope, scope

if TYPE_CHECKING:
    import pandas as pd


def plan(settings: Settings, within: Scope | None = None) -> "pd.DataFrame":
    """part, what: machines, networks, images and layers that would be installed."""
    import pandas as pd

    layers = _layers(settings, within or scope(settings, None, dry_run=False))
    return pd.DataFrame([*_cluster(settings), *layers], columns=["part", "what"])


def _cluster(settings: Settings) -> list[tuple[str, str]]:
    cluster = settings.cluster
    nodes = [(f"node {node.name}", f"{node.role}, {node.address}, by {node.connection}") for node in cluster.nodes]
    return [
        ("cluster", f"{cluster.distribution} {cluster.version}"),
        *nodes,
        (
            "networks",
            f"nodes {cluster.network.nodes}, pods {cluster.network.pods}, services {cluster.network.services}",
        ),
        ("images from", str(settings.registry.mirror or "their upstream registries")),
    ]


def _layers(settings: Settings, within: Scope) -> list[tuple[str, str]]:
    rows = [(f"layer {name}", within.why_not(name) or _components(name, settings)) for name in settings.layers]
    kept = settings.observability
    stores = [(name, getattr(kept, name)) for name in ("prometheus", "loki") if "observability" in within.layers]
    return rows + [(name, f"{of.storage} for {of.retention}, memory {of.memory}") for name, of in stores]


def _components(name: str, settings: Settings) -> str:
    return ", ".join(component.name for component in layer(name).wanted(settings)) or "nothing to install"
