"""What the policies' templates use."""

from typing import Any

from platformlib.security.declared import excepted
from platformlib.security.quotas import hard_of_sizes
from platformlib.settings import Settings


def names(settings: Settings) -> dict[str, Any]:
    """Namespaces with a declared exception, and the quota of every size."""
    return {"excepted": excepted(settings), "hard_of_sizes": hard_of_sizes(settings)}
