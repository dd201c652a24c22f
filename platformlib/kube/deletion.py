"""Prune and uninstall: delete what a layer applied, in reverse order, and nothing of anybody else's.

What stays is said in the table: objects of another layer or of nobody, adopted objects, volume claims, objects marked
as data, namespaces that hold objects of others, definitions with instances of others.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformlib.errors import ApiError, KubeError, WaitTimeout
from platformlib.kube import inventory
from platformlib.kube.api import Api
from platformlib.kube.batch import OnEvent, Progress, combine_errors, each, frame
from platformlib.kube.contents import CLAIM, claims_of, held, instances
from platformlib.kube.growth import MERGE_PATCH, retain_claims
from platformlib.kube.objects import (
    ADOPTED,
    DATA,
    LAYER_LABEL,
    MANAGER,
    Object,
    Reference,
    annotation,
    by_rank,
    labels,
    reference,
)
from platformlib.kube.session import CONFLICT
from platformlib.polling import poll

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "action")
DELETED, WOULD_DELETE, ABSENT = "deleted", "would delete", "absent"
ADOPTED_KEPT = "kept, adopted"
ATTEMPTS = 5  # of deleting an object that is made anew in between
FIX = "what holds the finalizer must run to remove it; look with `kubectl get -o yaml`, then call this again"
NAMESPACE, DEFINITION = ("v1", "Namespace"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


def prune(
    api: Api,
    layer: str,
    keep: Iterable[Reference],
    *,
    delete_data: Collection[str],
    timeout: float,
    on_event: OnEvent | None,
) -> "pd.DataFrame":
    """See `Kube.prune`."""
    wanted = list(keep)
    extra = inventory.surplus(api, layer, wanted)
    if extra and not wanted:
        raise KubeError(
            f"layer {layer} has no objects any more, but {len(extra)} are on the cluster; nothing was pruned",
            fix="look why it became empty; to remove the layer, uninstall it",
        )
    removal = Removal(api, layer, frozenset(delete_data), "prune", timeout, on_event)
    rows = removal.run(extra)
    if not api.session.dry_run:
        # What is kept as data stays recorded: it goes when it has become empty, or is named.
        done = [ref for ref, action in rows.items() if action in {DELETED, ABSENT, ADOPTED_KEPT} or _others(action)]
        inventory.forget(api, layer, done)
    return _table(rows)


def uninstall(
    api: Api, layer: str, *, delete_data: Collection[str], timeout: float, on_event: OnEvent | None
) -> "pd.DataFrame":
    """See `Kube.uninstall`."""
    recorded = inventory.read(api, layer)
    removal = Removal(api, layer, frozenset(delete_data), "uninstall", timeout, on_event)
    rows = removal.run([*recorded, *_named(api, layer, delete_data)])
    if not api.session.dry_run:
        inventory.forget(api, layer, recorded)
    return _table(rows)


def _table(rows: Mapping[Reference, str]) -> "pd.DataFrame":
    return frame([{**ref.row, "action": action} for ref, action in rows.items()], COLUMNS)


def _others(action: str) -> bool:
    return action.startswith("kept, of ")


def _named(api: Api, layer: str, delete_data: Collection[str]) -> list[Reference]:
    """What an earlier uninstall kept and labelled, and is named now."""
    if not delete_data:
        return []
    selector = f"{LAYER_LABEL}={layer}"
    found = [obj for kind in (CLAIM, NAMESPACE, DEFINITION) for obj in api.list_metadata(*kind, labelSelector=selector)]
    return [ref for ref in map(reference, found) if ref.data_name in delete_data]


@dataclass
class Removal:
    """One prune or uninstall. On a dry handle, and by `look`, nothing is changed."""

    api: Api
    layer: str
    delete_data: frozenset[str]
    verb: str = "prune"
    timeout: float = 0
    on_event: OnEvent | None = None

    def run(self, refs: Iterable[Reference]) -> dict[Reference, str]:
        """Delete rank by rank, last applied first; each rank is gone before the next. Returns what became of each."""
        return self._ranks(set(refs), act=not self.api.session.dry_run)

    def look(self, refs: Iterable[Reference]) -> dict[Reference, str]:
        """What `run` would do."""
        return self._ranks(set(refs), act=False)

    def _ranks(self, refs: set[Reference], *, act: bool) -> dict[Reference, str]:
        began, actions = time.monotonic(), dict[Reference, str]()
        sets = self.api.get_many(ref for ref in refs if ref.kind == "StatefulSet").values()
        claims = frozenset(claims_of(self.api, [each for each in sets if labels(each).get(LAYER_LABEL) == self.layer]))
        everything = refs | claims
        for rank in reversed(by_rank(everything)):
            live = self.api.get_many(rank)
            going = frozenset(ref for ref, action in actions.items() if action in {DELETED, WOULD_DELETE})
            one = Judge(self, claims, going, act=act)
            done, failed = each(lambda ref: one(ref, live.get(ref)), rank)  # noqa: B023  called before the next rank
            if failed:
                heading = f"{self.verb} {self.layer}: {len(failed)} objects could not be deleted"
                raise combine_errors(failed, heading=heading)
            actions |= dict(zip(rank, done, strict=True))
            gone = {ref: live[ref] for ref in rank if actions[ref] == DELETED}
            wait_gone(self.api, gone, timeout=max(1.0, self.timeout - (time.monotonic() - began)))
            if act and self.on_event:
                told = f"{', '.join(sorted({ref.kind for ref in rank}))}: {len(gone)} deleted"
                self.on_event(Progress(self.verb, len(actions), len(everything), time.monotonic() - began, told))
        return actions


@dataclass(frozen=True)
class Judge:
    """Decides over one object after the other, and deletes what goes."""

    removal: Removal
    claims: frozenset[Reference]  # that StatefulSets of the layer made
    going: frozenset[Reference]  # deleted before
    act: bool

    def __call__(self, ref: Reference, live: Object | None) -> str:
        """What becomes of it. Raises: KubeError."""
        api = self.removal.api
        for _ in range(ATTEMPTS):
            if live is None:
                return ABSENT
            if reason := self._why_kept(ref, live):
                if self.act and ref in self.claims:
                    _label(api, ref, self.removal.layer)
                return f"kept, {reason}"
            if not self.act:
                return WOULD_DELETE
            try:
                if (ref.kind, ref.group) == ("StatefulSet", "apps"):
                    retain_claims(api, live)
                return DELETED if api.delete(ref, uid=live["metadata"]["uid"]) else ABSENT
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
            # Another object of the same name is there now.
            live = api.get_if_known(ref)
        raise KubeError(f"{ref} is made anew whenever it is deleted", fix="stop what makes it, then call this again")

    def _why_kept(self, ref: Reference, live: Object) -> str:
        """The reason, or nothing when it goes."""
        layer, owner, data = self.removal.layer, labels(live).get(LAYER_LABEL), annotation(live, DATA)
        if owner != layer and ref not in self.claims:
            return f"of layer {owner}" if owner else "of nobody: it has no layer's label"
        if annotation(live, ADOPTED):
            return "adopted"
        if ref.data_name in self.removal.delete_data:
            return ""
        kind = (ref.api_version, ref.kind)
        if data == "true" or (kind == CLAIM and data != "false"):
            return "data"
        within = {NAMESPACE: held, DEFINITION: instances}.get(kind)
        return within(self.removal.api, live, self.going, layer) if within else ""


def _label(api: Api, ref: Reference, layer: str) -> None:
    """So that it is found when it is named later, when its StatefulSet and the inventory are gone."""
    patch = {"metadata": {"labels": {LAYER_LABEL: layer}}}
    api.call("PATCH", ref, body=patch, content=MERGE_PATCH, fieldManager=MANAGER)


def wait_gone(api: Api, deleted: Mapping[Reference, Object], *, timeout: float) -> None:
    """Until none of the deleted objects is there; another object of the same name does not count.

    Raises:
        WaitTimeout: naming what is left, and the finalizer or condition that holds it.
    """
    left = dict(deleted)

    def look() -> bool:
        live = api.get_many(left)
        same = {ref: obj for ref, obj in live.items() if _uid(obj) == _uid(left[ref])}
        left.clear()
        left.update(same)
        return not left

    if left and not poll(look, timeout=timeout, interval=0.5):
        holders = "\n    ".join(f"{ref}: {_holder(obj)}" for ref, obj in left.items())
        message = f"{len(left)} deleted objects are still there after {timeout:.0f} s\n    {holders}"
        raise WaitTimeout(message, fix=FIX)


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid"))


def _holder(obj: Object) -> str:
    """What keeps a deleted object: its finalizers, and what a namespace says of its content."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    finalizers = [*(metadata.get("finalizers") or []), *((obj.get("spec") or {}).get("finalizers") or [])]
    said = [each.get("message", "") for each in status.get("conditions") or [] if each["status"] == "True"]
    return "; ".join([f"finalizers {', '.join(finalizers) or 'none'}", *filter(None, said)])
