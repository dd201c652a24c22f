"""What the policies' templates use."""

from typing import Any

from platformlib.security.declared import excepted
from platformlib.security.quotas import bounds_of_sizes
from platformlib.settings import Settings


def names(settings: Settings) -> dict[str, Any]:
    """Namespaces with a declared exception, and the quota and limits of every size."""
    return {"excepted": excepted(settings), "bounds_of_sizes": bounds_of_sizes(settings)}
