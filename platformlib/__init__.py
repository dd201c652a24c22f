"""platformlib: installs, proves and operates a complete Kubernetes platform, and explains an incident afterwards.

The public names are below; each is imported when it is first used, so that `import platformlib` costs little.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platformlib.settings import Settings, load

_HOMES = {
    "Settings": "settings",
    "load": "settings",
}

__all__ = ["Settings", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'platformlib' has no attribute {name!r}")
    return getattr(import_module(f"platformlib.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
