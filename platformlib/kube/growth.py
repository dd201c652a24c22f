"""Growing the volume claim templates of a StatefulSet, which the server never changes in place.

The StatefulSet is deleted without its pods and claims, and created again; its claims are expanded where their class
allows it. Nothing that a claim holds is touched. Shrinking is refused: no volume can shrink.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from platformlib.errors import KubeError, WaitTimeout
from platformlib.kube.api import Api
from platformlib.kube.objects import MANAGER, Object, Objects, Reference, reference
from platformlib.polling import poll
from platformlib.quantities import amount

RELEASED_WITHIN = 60.0  # seconds for the controller to take its ownership off the claims
TEMPLATES = "volumeClaimTemplates"
RETENTION = "persistentVolumeClaimRetentionPolicy"
MERGE_PATCH = "application/merge-patch+json"
Sizes = dict[str, str]


@dataclass(frozen=True)
class Growth:
    """A claim template that is to become larger."""

    template: str
    size: str


@dataclass(frozen=True)
class Expansion:
    """One claim of a growing template; `kept` is the reason why it stays as large as it is."""

    ref: Reference
    size: str
    kept: str = ""

    def row(self, *, dry_run: bool) -> dict[str, str]:
        """Its row in the result table of an apply."""
        action = f"kept, {self.kept}" if self.kept else "would expand" if dry_run else "expanded"
        return {**self.ref.row, "action": action}


def growing(obj: Object, live: Object | None) -> tuple[Growth, ...]:
    """The templates of a StatefulSet that ask for more than the live ones do.

    Raises:
        KubeError: one asks for less.
    """
    if live is None or (obj["kind"], obj["apiVersion"]) != ("StatefulSet", "apps/v1"):
        return ()
    wanted, now = _sizes(obj), _sizes(live)
    pairs = [(name, size, now[name]) for name, size in wanted.items() if name in now]
    if smaller := [f"{name} from {old} to {size}" for name, size, old in pairs if amount(size) < amount(old)]:
        raise KubeError(
            f"{reference(obj)}: its volumes cannot shrink: {', '.join(smaller)}",
            fix="set the size back; smaller volumes need a new StatefulSet of another name and a copy of the data",
        )
    return tuple(Growth(name, size) for name, size, old in pairs if amount(size) > amount(old))


def _sizes(obj: Object) -> Sizes:
    """Template to the storage that it requests."""
    return {
        each["metadata"]["name"]: size
        for each in obj["spec"].get(TEMPLATES) or []
        if (size := ((each["spec"].get("resources") or {}).get("requests") or {}).get("storage")) is not None
    }


def with_live_sizes(obj: Object, live: Object) -> Object:
    """The object with the live templates' sizes: what the server can judge by a dry run."""
    return _resized(obj, _sizes(live))


def grown(merged: Object, growths: tuple[Growth, ...]) -> Object:
    """What a dry run answered, with the sizes that are to come."""
    return _resized(merged, {each.template: each.size for each in growths})


def _resized(obj: Object, sizes: Sizes) -> Object:
    def resized(template: Object) -> Object:
        size = sizes.get(template["metadata"]["name"])
        if size is None:
            return template
        resources = template["spec"].get("resources") or {}
        requests = {**(resources.get("requests") or {}), "storage": size}
        return {**template, "spec": {**template["spec"], "resources": {**resources, "requests": requests}}}

    return {**obj, "spec": {**obj["spec"], TEMPLATES: [resized(each) for each in obj["spec"][TEMPLATES]]}}


def expansions(api: Api, ref: Reference, growths: tuple[Growth, ...]) -> list[Expansion]:
    """What becomes of each claim that the StatefulSet has."""
    claims = api.list("v1", "PersistentVolumeClaim", ref.namespace)
    classes = {each["metadata"]["name"]: each for each in api.list("storage.k8s.io/v1", "StorageClass")}
    return [
        Expansion(reference(claim), growth.size, _kept(claim, classes))
        for growth in growths
        for claim in _claims(claims, growth.template, ref.name)
        if amount(claim["spec"]["resources"]["requests"]["storage"]) < amount(growth.size)
    ]


def _claims(claims: Objects, template: str, name: str) -> Iterator[Object]:
    made = re.compile(f"{re.escape(template)}-{re.escape(name)}-[0-9]+")
    return (each for each in claims if made.fullmatch(each["metadata"]["name"]))


def _kept(claim: Object, classes: dict[str, Object]) -> str:
    if (claim.get("status") or {}).get("phase") != "Bound":
        return "not bound"
    name = claim["spec"].get("storageClassName") or ""
    if not classes.get(name, {}).get("allowVolumeExpansion"):
        return f"class {name or 'none'} cannot expand it"
    return ""


def grow(api: Api, obj: Object, live: Object, found: list[Expansion]) -> None:
    """Expand the claims and delete the StatefulSet alone, so that it can be applied anew.

    Killed at any point, the next apply goes on: the claims are there, and the StatefulSet takes its pods back.
    """
    ref = reference(obj)
    retain_claims(api, live)
    for each in found:
        if not each.kept:
            patch = {"spec": {"resources": {"requests": {"storage": each.size}}}}
            api.call("PATCH", each.ref, body=patch, content=MERGE_PATCH, fieldManager=MANAGER)
    uid = live["metadata"]["uid"]
    api.delete(ref, uid=uid, policy="Orphan")
    if not poll(lambda: _gone(api, ref, uid), timeout=RELEASED_WITHIN):
        fix = "does the controller manager run? It removes the finalizer `orphan`"
        raise WaitTimeout(f"{ref} is still there {RELEASED_WITHIN:.0f} s after it was deleted", fix=fix)


def _gone(api: Api, ref: Reference, uid: str) -> bool:
    live = api.get(ref)
    return live is None or live["metadata"]["uid"] != uid


def retain_claims(api: Api, live: Object) -> None:
    """Take the claims out of a StatefulSet's ownership, so that they stay when it is deleted.

    Deleting it as an orphan would do the same, but for claims that the garbage collector does not know of yet.

    Raises:
        WaitTimeout: the controller did not let them go; the StatefulSet is unchanged but for its retention policy.
    """
    if (live["spec"].get(RETENTION) or {}).get("whenDeleted") != "Delete":
        return
    ref, uid = reference(live), live["metadata"]["uid"]
    patch = {"spec": {RETENTION: {"whenDeleted": "Retain"}}}
    api.call("PATCH", ref, body=patch, content=MERGE_PATCH, fieldManager=MANAGER)
    if not poll(lambda: not _owned(api, ref.namespace, uid), timeout=RELEASED_WITHIN):
        names = ", ".join(_owned(api, ref.namespace, uid))
        fix = "does the controller manager run? Call this again when it does"
        raise WaitTimeout(f"{ref} was not deleted: it still owns the claims {names}", fix=fix)


def _owned(api: Api, namespace: str, uid: str) -> list[str]:
    return [
        each["metadata"]["name"]
        for each in api.list("v1", "PersistentVolumeClaim", namespace)
        if any(owner.get("uid") == uid for owner in each["metadata"].get("ownerReferences") or [])
    ]
