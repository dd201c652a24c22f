"""What a layer has applied: references in ConfigMaps, written before the objects are, removed after they are gone.

A run that is killed in between leaves a reference too many, never an object that nobody knows. Two writers lose
nothing of each other's: every ConfigMap is written only if it still is what was read.

The first ConfigMap is named as its layer; what does not fit into it goes on in others, `.1`, `.2`, each far below the
1 MiB that an object may have.
"""

import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from platformlib.errors import ApiError, KubeError
from platformlib.kube.api import Api
from platformlib.kube.objects import LAYER_LABEL, MANAGER, Object, Reference, prepared, reference
from platformlib.kube.session import CONFLICT, NOT_FOUND

NAMESPACE = "kube-system"
LIMIT = 512 * 1024  # bytes of references in one ConfigMap
ATTEMPTS = 50  # of writing against other writers
Identity = tuple[str, str, str, str]


@dataclass(frozen=True)
class Shard:
    """One ConfigMap with references; `version` is empty while it does not exist."""

    ref: Reference
    version: str
    references: tuple[Reference, ...]

    def document(self, layer: str) -> Object:
        """The ConfigMap."""
        metadata = {"name": self.ref.name, "namespace": self.ref.namespace}
        data = {"references": "\n".join(map(_line, sorted(self.references)))}
        made = prepared({"apiVersion": "v1", "kind": self.ref.kind, "metadata": metadata, "data": data}, layer)
        if self.version:
            made["metadata"]["resourceVersion"] = self.version
        return made


def parent(layer: str, number: int = 0) -> Reference:
    """The ConfigMap that holds a layer's references, or the further ones of them."""
    return Reference("v1", "ConfigMap", NAMESPACE, f"platformlib-layer-{layer}" + (f".{number}" if number else ""))


def read(api: Api, layer: str) -> list[Reference]:
    """The references of a layer, sorted; none when it was never applied."""
    return sorted(_newest(ref for shard in _shards(api, layer) for ref in shard.references).values())


def record(api: Api, layer: str, refs: Iterable[Reference]) -> None:
    """Add references; the same object under a newer version of its API replaces the older."""
    added = _newest(refs)

    def change(shards: list[Shard]) -> list[Shard]:
        known = {ref.identity for shard in shards for ref in shard.references}
        renewed = [
            Shard(shard.ref, shard.version, tuple(added.get(ref.identity, ref) for ref in shard.references))
            for shard in shards
        ]
        return _packed(layer, renewed, [ref for ref in added.values() if ref.identity not in known])

    _rewrite(api, layer, change)


def forget(api: Api, layer: str, refs: Iterable[Reference]) -> None:
    """Remove references; the last one takes the inventory with it."""
    gone = {ref.identity for ref in refs}

    def change(shards: list[Shard]) -> list[Shard]:
        return [
            Shard(shard.ref, shard.version, tuple(ref for ref in shard.references if ref.identity not in gone))
            for shard in shards
        ]

    _rewrite(api, layer, change)


def surplus(api: Api, layer: str, keep: Iterable[Reference]) -> list[Reference]:
    """The recorded references that are not among `keep`."""
    kept = {ref.identity for ref in keep}
    return [ref for ref in read(api, layer) if ref.identity not in kept]


def _newest(refs: Iterable[Reference]) -> dict[Identity, Reference]:
    return {ref.identity: ref for ref in refs}


def _shards(api: Api, layer: str) -> list[Shard]:
    """The ConfigMaps of a layer that exist."""
    first = parent(layer)
    listed = api.list("v1", "ConfigMap", NAMESPACE, labelSelector=f"{LAYER_LABEL}={layer}")
    live = {each["metadata"]["name"]: each for each in listed}
    if first.name not in live and (found := api.get(first)):  # somebody took its label off
        live[first.name] = found
    own = re.compile(rf"{re.escape(first.name)}(\.[0-9]+)?")
    return [_shard(live[name]) for name in sorted(live) if own.fullmatch(name)]


def _shard(live: Object) -> Shard:
    ref, lines = reference(live), ((live.get("data") or {}).get("references") or "").splitlines()
    try:
        found = tuple(Reference(*map(str, json.loads(line))) for line in lines)
    except (ValueError, TypeError):
        fix = "restore it from a backup; without it, nothing of the layer can be pruned or uninstalled"
        raise KubeError(f"{ref}: the inventory in it cannot be read", fix=fix) from None
    return Shard(ref, str(live["metadata"]["resourceVersion"]), found)


def _line(ref: Reference) -> str:
    return json.dumps([ref.api_version, ref.kind, ref.namespace, ref.name])


def _packed(layer: str, shards: list[Shard], added: list[Reference]) -> list[Shard]:
    """The shards with more references, each within the limit: what does not fit moves on."""
    numbers = (number for number in itertools.count() if parent(layer, number) not in {shard.ref for shard in shards})
    free = (Shard(parent(layer, number), "", ()) for number in numbers)
    left, packed = list(added), list[Shard]()
    for shard in itertools.chain(shards, free):
        if shard.version == "" and not left:
            break
        kept, left = _within_limit([*shard.references, *left])
        packed.append(Shard(shard.ref, shard.version, tuple(kept)))
    return packed


def _within_limit(refs: list[Reference]) -> tuple[list[Reference], list[Reference]]:
    size = 0
    for count, ref in enumerate(refs):
        size += len(_line(ref)) + 1
        if size > LIMIT:
            return refs[:count], refs[count:]
    return refs, []


def _rewrite(api: Api, layer: str, change: Callable[[list[Shard]], list[Shard]]) -> None:
    """Read, change and write, again and again until nobody else wrote in between. What grows is written first."""
    for _ in range(ATTEMPTS):
        shards = _shards(api, layer)
        before = {shard.ref: set(shard.references) for shard in shards}
        changed = [each for each in change(shards) if set(each.references) != before.get(each.ref, set())]
        try:
            for shard in sorted(changed, key=lambda each: bool(before.get(each.ref, set()) - set(each.references))):
                _write(api, layer, shard)
        except ApiError as error:
            if error.status not in {CONFLICT, NOT_FOUND}:
                raise
            time.sleep(random.uniform(0, 0.1))  # noqa: S311  so that two writers do not meet again
        else:
            return
    fix = "let the other run end, and hold the platform's lock while you change it"
    raise KubeError(f"the inventory of layer {layer} is written by others all the time", fix=fix)


def _write(api: Api, layer: str, shard: Shard) -> None:
    if not shard.version:
        api.create(shard.document(layer))
    elif shard.references:
        api.call("PUT", shard.ref, body=shard.document(layer), fieldManager=MANAGER)
    else:
        only = {"resourceVersion": shard.version}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": only}
        api.call("DELETE", shard.ref, body=body)
