"""Metrics, logs and events as tidy DataFrames, through one transport, complete or an error.

Imported name by name when first used: pandas and prometheus-api-client are heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platformlib.query.cassette import Recording, Replay
    from platformlib.query.catalog import Catalog
    from platformlib.query.events import Events
    from platformlib.query.loki import Loki
    from platformlib.query.prometheus import Prometheus
    from platformlib.query.sources import connect
    from platformlib.query.transport import Answer, Http, Transport, direct, service
    from platformlib.query.window import Window

_HOMES = {
    "Answer": "transport",
    "Catalog": "catalog",
    "Events": "events",
    "Http": "transport",
    "Loki": "loki",
    "Prometheus": "prometheus",
    "Recording": "cassette",
    "Replay": "cassette",
    "Transport": "transport",
    "Window": "window",
    "connect": "sources",
    "direct": "transport",
    "service": "transport",
}

__all__ = [
    "Answer",
    "Catalog",
    "Events",
    "Http",
    "Loki",
    "Prometheus",
    "Recording",
    "Replay",
    "Transport",
    "Window",
    "connect",
    "direct",
    "service",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'platformlib.query' has no attribute {name!r}")
    return getattr(import_module(f"platformlib.query.{_HOMES[name]}"), name)
