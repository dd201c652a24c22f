"""What a layer has applied: a ConfigMap of references, written before the objects are, trimmed after they are gone.

A run that is killed in between leaves a reference too many, never an object that nobody knows.
"""

import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from platformlib.kube.api import Api
from platformlib.kube.deletion import delete_all
from platformlib.kube.objects import Object, Reference, prepared
from platformlib.kube.report import OnEvent, frame

if TYPE_CHECKING:
    import pandas as pd

NAMESPACE = "kube-system"
COLUMNS = ("kind", "namespace", "name", "action")


def parent(layer: str) -> Reference:
    """The ConfigMap that holds a layer's references."""
    return Reference("v1", "ConfigMap", NAMESPACE, f"platformlib-layer-{layer}")


def read(api: Api, layer: str) -> list[Reference]:
    """The references of a layer, sorted; none when it was never applied."""
    live = api.get(parent(layer))
    lines = ((live or {}).get("data") or {}).get("references", "").splitlines()
    return sorted(Reference(*json.loads(line)) for line in lines)


def record(api: Api, layer: str, refs: Iterable[Reference]) -> None:
    """Add references; the same object under a newer version of its API replaces the older."""
    known = read(api, layer)
    union = {ref.identity: ref for ref in [*known, *refs]}
    _write(api, layer, known, union.values())


def _write(api: Api, layer: str, known: list[Reference], wanted: Iterable[Reference]) -> None:
    references = sorted(wanted)
    if references != known:
        api.apply(prepared(_document(layer, references), layer), force=True)


def _document(layer: str, references: list[Reference]) -> Object:
    lines = (json.dumps([ref.api_version, ref.kind, ref.namespace, ref.name]) for ref in references)
    ref = parent(layer)
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return {"apiVersion": "v1", "kind": ref.kind, "metadata": metadata, "data": {"references": "\n".join(lines)}}


def surplus(api: Api, layer: str, keep: Iterable[Reference]) -> list[Reference]:
    """The recorded references that are not among `keep`."""
    kept = {ref.identity for ref in keep}
    return [ref for ref in read(api, layer) if ref.identity not in kept]


def prune(
    api: Api,
    layer: str,
    keep: Iterable[Reference],
    *,
    delete_data: Collection[str],  # noqa: ARG001
    timeout: float,
    on_event: OnEvent | None,
) -> "pd.DataFrame":
    """See `Kube.prune`."""
    extra = surplus(api, layer, keep)
    rows = delete_all(api, extra, layer=layer, verb="prune", timeout=timeout, on_event=on_event)
    known = read(api, layer)
    _write(api, layer, known, set(known) - set(extra))
    return _table(rows)


def uninstall(
    api: Api,
    layer: str,
    *,
    delete_data: Collection[str],  # noqa: ARG001
    timeout: float,
    on_event: OnEvent | None,
) -> "pd.DataFrame":
    """See `Kube.uninstall`."""
    rows = delete_all(api, read(api, layer), layer=layer, verb="uninstall", timeout=timeout, on_event=on_event)
    api.delete(parent(layer))
    return _table(rows)


def _table(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    return frame(rows, COLUMNS)
