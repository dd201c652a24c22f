"""Deleting in reverse order, and waiting until what was deleted is gone."""

import time
from collections.abc import Sequence
from typing import Any

from platformlib.errors import WaitTimeout
from platformlib.kube.api import Api, UnknownKindError
from platformlib.kube.objects import LAYER_LABEL, Object, Reference, by_rank
from platformlib.kube.parallel import combine_errors, each
from platformlib.kube.report import OnEvent, Progress

FIX = (
    "what holds the finalizer must run to remove it; look at it with `kubectl get -o yaml`, then go on by the same call"
)


def delete_all(
    api: Api, refs: Sequence[Reference], *, layer: str, verb: str, timeout: float, on_event: OnEvent | None
) -> list[dict[str, Any]]:
    """Delete those that the layer owns, last applied first; each rank is gone before the next is asked to go.

    Returns rows of kind, namespace, name and action: deleted, absent, or kept (it belongs to another now).
    """
    began, rows = time.monotonic(), []
    for rank in reversed(by_rank(refs)):
        actions, failed = each(lambda ref: _delete(api, ref, layer), rank)
        if failed:
            raise combine_errors(failed, heading=f"{verb} {layer}: {len(failed)} objects could not be deleted")
        deleted = [ref for ref, action in zip(rank, actions, strict=True) if action == "deleted"]
        wait_gone(api, deleted, timeout=max(1.0, timeout - (time.monotonic() - began)))
        rows += [{**ref.row, "action": action} for ref, action in zip(rank, actions, strict=True)]
        if on_event:
            kinds = ", ".join(sorted({ref.kind for ref in rank}))
            on_event(Progress(verb, len(rows), len(refs), time.monotonic() - began, f"{kinds}: {len(deleted)} deleted"))
    return rows


def _delete(api: Api, ref: Reference, layer: str) -> str:
    live = _live(api, ref)
    if live is None:
        return "absent"
    if (live["metadata"].get("labels") or {}).get(LAYER_LABEL) != layer:
        return "kept"
    return "deleted" if api.delete(ref) else "absent"


def _live(api: Api, ref: Reference) -> Object | None:
    """None as well when its whole kind has gone, by the deletion of a definition."""
    try:
        return api.get(ref)
    except UnknownKindError:
        return None


def wait_gone(api: Api, refs: Sequence[Reference], *, timeout: float) -> None:
    """Until none of them is there.

    Raises:
        WaitTimeout: naming what is left, and the finalizer or condition that holds it.
    """
    deadline, left = time.monotonic() + timeout, list(refs)
    while left:
        live, failed = each(lambda ref: (ref, _live(api, ref)), left)
        if failed:
            raise combine_errors(failed, heading="cannot see whether the deleted objects are gone")
        left = [ref for ref, obj in live if obj]
        if left and time.monotonic() > deadline:
            held = "\n    ".join(f"{ref}: {_holder(obj)}" for ref, obj in live if obj)
            raise WaitTimeout(f"{len(left)} deleted objects are still there after {timeout:.0f} s\n    {held}", fix=FIX)
        time.sleep(0.2 if left else 0)


def _holder(obj: Object) -> str:
    """What keeps a deleted object: its finalizers, and what a namespace says of its content."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    finalizers = [*(metadata.get("finalizers") or []), *((obj.get("spec") or {}).get("finalizers") or [])]
    said = [each.get("message", "") for each in status.get("conditions") or [] if each["status"] == "True"]
    if not metadata.get("deletionTimestamp"):
        return "it is there again: something creates it anew"
    return "; ".join([f"finalizers {', '.join(finalizers) or 'none'}", *filter(None, said)])
