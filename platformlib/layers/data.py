"""The data of a platform: what uninstall keeps unless it is named, and how it goes when it is.

Data are namespaces with content that the platform did not make, claims of volumes, and definitions of kinds that have
instances. Their names in `delete_data`: "shop" for a namespace, "shop/files" for a claim, "widgets.example.org" for a
definition.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from platformlib.errors import PlatformError, WaitTimeout
from platformlib.kube import Reference
from platformlib.kube.objects import LAYER_LABEL, MANAGED_BY, MANAGER
from platformlib.polling import poll
from platformlib.security.declared import KIND

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

Object = dict[str, Any]
COLUMNS = ["kind", "namespace", "name", "delete_data", "objects", "claims", "bytes"]
ROW = ["kind", "namespace", "name", "action"]
CLAIM = ("v1", "PersistentVolumeClaim")
DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
DERIVED = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics"})
DEFAULTS = frozenset({("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")})
DELETED, KEPT = "deleted", "kept"
MERGE = "application/merge-patch+json"


def table(kube: "Kube", delete_data: Collection[str] = ()) -> "pd.DataFrame":
    """The data of the platform, and what becomes of it when the platform is removed.

    Args:
        delete_data: what is to go.

    Returns:
        Columns: kind, namespace, name, delete_data (the name to give), objects (that the platform did not make),
        claims, bytes (capacity of the claims), fate (deleted, kept).

    Raises:
        PlatformError: `delete_data` names what is not there.
    """
    import pandas as pd

    found = pd.DataFrame(list(_held(kube)), columns=COLUMNS)
    if unknown := sorted(set(delete_data) - set(found["delete_data"])):
        there = ", ".join(found["delete_data"]) or "none"
        raise PlatformError(f"there is no such data: {', '.join(unknown)}; nothing was removed", fix=f"data: {there}")
    named = [
        name in delete_data or space in delete_data
        for name, space in zip(found["delete_data"], found["namespace"], strict=True)
    ]
    return found.assign(fate=[DELETED if each else KEPT for each in named])


def _held(kube: "Kube") -> Iterator[dict[str, Any]]:
    claims = kube.list(*CLAIM)
    spaces = kube.list("v1", "Namespace", label_selector=f"{MANAGED_BY}={MANAGER}")
    foreign = Counter(each["metadata"]["namespace"] for each in _foreign(kube))
    for meta in (each["metadata"] for each in spaces):
        name = meta["name"]
        own = [each for each in claims if each["metadata"]["namespace"] == name]
        if foreign[name] or _is_application(meta):
            yield _row("Namespace", "", name, name, foreign[name], len(own), sum(map(_capacity, own)))
        for each in own:
            claim = each["metadata"]["name"]
            yield _row("PersistentVolumeClaim", name, claim, f"{name}/{claim}", 1, 1, _capacity(each))
    definitions = kube.list(*DEFINITION, label_selector=f"{MANAGED_BY}={MANAGER}")
    for definition, count in zip(definitions, _instances(kube, definitions), strict=True):
        if count:
            name = definition["metadata"]["name"]
            yield _row("CustomResourceDefinition", "", name, name, count, 0, 0)


def _foreign(kube: "Kube") -> Iterator[Object]:
    """Objects in namespaces that somebody made by hand or by another tool; what these own is counted with them."""
    for api_version, kind in kube.api.discovery.deletable():
        for each in kube.list(api_version, kind):
            if kind == CLAIM[1] or not (_is_ours(each) or _is_automatic(each)):
                yield each


def _instances(kube: "Kube", definitions: Iterable[Object]) -> Iterator[int]:
    """For each definition, how many instances the platform did not make."""
    for spec in (each["spec"] for each in definitions):
        version = next(each["name"] for each in spec["versions"] if each.get("served"))
        live = kube.list(f"{spec['group']}/{version}", spec["names"]["kind"])
        yield sum(not (_is_ours(each) or _is_automatic(each)) for each in live)


def _is_ours(obj: Object) -> bool:
    return (obj["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER


def _is_automatic(obj: Object) -> bool:
    """What a controller makes in every namespace, or for another object."""
    meta = obj["metadata"]
    return bool(meta.get("ownerReferences")) or obj["kind"] in DERIVED or (obj["kind"], meta["name"]) in DEFAULTS


def _is_application(meta: Object) -> bool:
    return (meta.get("labels") or {}).get(KIND) == "application"


def _row(*values: object) -> dict[str, Any]:
    return dict(zip(COLUMNS, values, strict=True))


def _capacity(claim: Object) -> int:
    from kubernetes.utils.quantity import parse_quantity

    given = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    asked = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return int(parse_quantity(given or asked or "0"))  # type: ignore[no-untyped-call]


def uninstall(
    kube: "Kube",
    layer: str,
    *,
    delete_data: Collection[str] = (),
    timeout: float,
    on_event: Callable[[object], None] | None = None,
) -> "pd.DataFrame":
    """Remove a layer by its inventory, and the data of it that is named: kind, namespace, name, action."""
    import pandas as pd

    refs = kube.inventory(layer)
    claims = retain(kube, refs, delete_data=delete_data, timeout=timeout)
    rows = _release_volumes(kube, refs, delete_data=delete_data, timeout=timeout)
    done = kube.uninstall(layer, delete_data=delete_data, timeout=timeout, on_event=on_event)
    rows += [ref.row | {"action": "kept, data"} for ref in claims if not _named(ref, delete_data)]
    going = {ref for ref in claims if _named(ref, delete_data)} | set(_orphans(kube, layer, delete_data))
    rows += [_delete(kube, ref, timeout) for ref in sorted(going)]
    return pd.concat([done, pd.DataFrame(rows, columns=ROW)], ignore_index=True) if rows else done


def _orphans(kube: "Kube", layer: str, delete_data: Collection[str]) -> Iterator[Reference]:
    """What was named and belongs to no other layer: an earlier removal has kept it."""
    maps = kube.list("v1", "ConfigMap", "kube-system", label_selector=LAYER_LABEL)
    others = {each["metadata"]["labels"][LAYER_LABEL] for each in maps} - {layer}
    held = {ref for name in others for ref in kube.inventory(name)}
    for name in delete_data:
        namespace, _, claim = name.partition("/")
        kind = DEFINITION if "." in namespace else ("v1", "Namespace")
        ref = Reference(*CLAIM, namespace, claim) if claim else Reference(*kind, "", name)
        if ref not in held and kube.api.get(ref):
            yield ref


def _delete(kube: "Kube", ref: Reference, timeout: float) -> dict[str, str]:
    if kube.dry_run:
        return ref.row | {"action": "would delete"}
    return ref.row | {"action": DELETED if kube.delete(ref, timeout=timeout) else "absent"}


def _named(ref: Reference, delete_data: Collection[str]) -> bool:
    return ref.namespace in delete_data or f"{ref.namespace}/{ref.name}" in delete_data


def retain(
    kube: "Kube", refs: Iterable[Reference], *, delete_data: Collection[str] = (), timeout: float = 60
) -> list[Reference]:
    """Let claims outlive the StatefulSets that asked for them.

    A StatefulSet with `whenDeleted: Delete` owns its claims: its deletion takes them along, whatever was said.

    Returns:
        The claims of the StatefulSets among `refs`.

    Raises:
        WaitTimeout: the controller makes itself the owner of a claim again and again.
    """
    claims: list[Reference] = []
    for ref in (ref for ref in refs if ref.kind == "StatefulSet"):
        live = kube.api.get(ref)
        own = _claims_of(kube, live) if live else []
        claims += own
        policy = ((live or {}).get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
        kept = [claim for claim in own if not _named(claim, delete_data)]
        if kept and policy.get("whenDeleted") == "Delete" and not kube.dry_run:
            patch = {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}}
            kube.api.call("PATCH", ref, body=patch, content=MERGE)
            _free(kube, ref, kept, timeout)
    return claims


def _claims_of(kube: "Kube", workload: Object) -> list[Reference]:
    meta = workload["metadata"]
    templates = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates") or []]
    pattern = re.compile(rf"({'|'.join(map(re.escape, templates))})-{re.escape(meta['name'])}-\d+")
    names = [each["metadata"]["name"] for each in kube.list(*CLAIM, meta["namespace"])] if templates else []
    return [Reference(*CLAIM, meta["namespace"], name) for name in names if pattern.fullmatch(name)]


def _free(kube: "Kube", workload: Reference, claims: Iterable[Reference], timeout: float) -> None:
    """Take the owner off the claims, and wait until its controller has seen that it is no owner any more."""

    def free() -> bool:
        live = [(ref, obj) for ref in claims if (obj := kube.api.get(ref))]
        owned = [(ref, obj) for ref, obj in live if _owners(obj) != _owners(obj, without=workload.name)]
        for ref, obj in owned:
            patch = {"metadata": {"ownerReferences": _owners(obj, without=workload.name)}}
            kube.api.call("PATCH", ref, body=patch, content=MERGE)
        return not owned

    if not poll(free, timeout=timeout):
        names = ", ".join(map(str, claims))
        raise WaitTimeout(
            f"{workload} takes {names} with it, and does so still after {timeout:.0f} s; nothing was removed",
            fix="run this again; if it stays so, set whenDeleted of the StatefulSet to Retain by hand",
        )


def _owners(claim: Object, *, without: str = "") -> list[Object]:
    owners: list[Object] = claim["metadata"].get("ownerReferences") or []
    return [each for each in owners if (each["kind"], each["name"]) != ("StatefulSet", without)]


def _release_volumes(
    kube: "Kube", refs: Iterable[Reference], *, delete_data: Collection[str], timeout: float
) -> list[dict[str, str]]:
    """Before a storage class goes: delete the named claims of its volumes, and wait until their volumes are removed.

    The provisioner that goes with the class is what removes them. A volume whose claim is not named stays, with its
    data; its claim is bound to it and works again once the class is back.

    Raises:
        WaitTimeout: a volume that nobody uses does not go away.
    """
    classes = {ref.name for ref in refs if ref.kind == "StorageClass"}
    if not classes:
        return []
    bound = {_claim(each): each for each in _volumes(kube, classes) if each["status"].get("phase") == "Bound"}
    rows = [
        {
            "kind": "PersistentVolume",
            "namespace": "",
            "name": each["metadata"]["name"],
            "action": f"kept, data of {claim.namespace}/{claim.name}",
        }
        for claim, each in bound.items()
        if not _named(claim, delete_data)
    ]
    if kube.dry_run:
        return rows
    going = {_holder(kube, claim, delete_data) for claim in bound if _named(claim, delete_data)}
    kept = {row["name"] for row in rows}
    rows += [_delete(kube, ref, timeout) for ref in sorted(going)]

    def left() -> list[str]:
        return [name for each in _volumes(kube, classes) if (name := each["metadata"]["name"]) not in kept]

    if not poll(lambda: not left(), timeout=timeout):
        raise WaitTimeout(
            f"volumes not removed after {timeout:.0f} s: {', '.join(left())}",
            fix="does the provisioner run? Then run this again",
        )
    return rows


def _volumes(kube: "Kube", classes: Collection[str]) -> list[Object]:
    """The volumes of the classes that their provisioner is to remove."""
    return [
        each
        for each in kube.list("v1", "PersistentVolume")
        if each["spec"].get("storageClassName") in classes
        and each["spec"].get("persistentVolumeReclaimPolicy") != "Retain"
    ]


def _claim(volume: Object) -> Reference:
    ref = volume["spec"].get("claimRef") or {}
    return Reference(*CLAIM, str(ref.get("namespace")), str(ref.get("name")))


def _holder(kube: "Kube", claim: Reference, delete_data: Collection[str]) -> Reference:
    """What to delete for a named claim: its namespace if that was named and is an application's, whose pods use it."""
    space = kube.get("v1", "Namespace", claim.namespace) or {"metadata": {}}
    if claim.namespace in delete_data and _is_application(space["metadata"]):
        return Reference("v1", "Namespace", "", claim.namespace)
    return claim
