"""What upstream's manifest is completed by: replicas by the number of nodes."""

from typing import Any

from platformlib.security.declared import schedulable
from platformlib.settings import Settings

MOST = 3  # replicas: with one on each of three nodes, two nodes may fail


def names(settings: Settings) -> dict[str, Any]:
    """As many admission controllers as there are nodes for them."""
    return {"replicas": min(schedulable(settings), MOST)}
