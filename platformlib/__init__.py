"""platformlib: installs, proves and operates a complete Kubernetes platform, and explains an incident afterwards.

The public names are below; each is imported when it is first used, so that `import platformlib` costs little.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platformlib.plots import plot
    from platformlib.query import Catalog, Events, Loki, Prometheus, connect
    from platformlib.runbook import run
    from platformlib.settings import Settings, load
    from platformlib.targets import Target, bind

# A retry that succeeds is no news; without a handler, logging would print each one among a notebook's outputs.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_HOMES = {
    "Catalog": "query",
    "Events": "query",
    "Loki": "query",
    "Prometheus": "query",
    "Settings": "settings",
    "Target": "targets",
    "bind": "targets",
    "connect": "query",
    "load": "settings",
    "plot": "plots",
    "run": "runbook",
}

__all__ = [
    "Catalog",
    "Events",
    "Loki",
    "Prometheus",
    "Settings",
    "Target",
    "bind",
    "connect",
    "load",
    "plot",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'platformlib' has no attribute {name!r}")
    return getattr(import_module(f"platformlib.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
