"""Server-side apply of many objects: the server's dry run plans all of them, then they change in order."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from platformlib.errors import ApiError, ApplyConflict, KubeError
from platformlib.kube import inventory
from platformlib.kube.api import Api, UnknownKindError
from platformlib.kube.batch import THREADS, OnEvent, Progress, combine_errors, each, frame
from platformlib.kube.deletion import wait_gone
from platformlib.kube.growth import Expansion, Growth, expansions, grow, growing, grown, with_live_sizes
from platformlib.kube.objects import (
    ADOPTED,
    APPLY_ONCE,
    AUTOSCALED,
    LAYER_LABEL,
    MANAGED_BY,
    MANAGER,
    OF_THE_SERVER,
    Object,
    Objects,
    Reference,
    annotated,
    annotation,
    by_rank,
    labels,
    prepared,
    reference,
)
from platformlib.kube.session import CONFLICT, FORBIDDEN, INVALID, NOT_FOUND
from platformlib.polling import poll

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "action")
WAITING_THREADS = 48  # of requests that the server answers late by itself
GONE_WITHIN = 120  # seconds for what an earlier run has deleted
SERVED_WITHIN = 30  # seconds for a new CustomResourceDefinition to be established and discovered
Action = Literal["created", "configured", "unchanged"]
SCHEMA = frozenset({400, 422, 500})  # how a server refuses a field that it does not know
IMMUTABLE = ("immutable", "Forbidden: updates to")
# What loses nothing but time when it is deleted and applied again.
REPLACEABLE = frozenset({
    "Deployment", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Service", "Role", "RoleBinding", "ClusterRole",
    "ClusterRoleBinding", "PriorityClass", "StorageClass", "PodDisruptionBudget", "Ingress",
})  # fmt: skip
# How admission refuses a pod for what it refers to, and does not find.
MISSED = {
    "ServiceAccount": 'serviceaccount "{}" not found',
    "PriorityClass": "no PriorityClass with name {} was found",
    "RuntimeClass": 'RuntimeClass "{}" not found',
}
PREREQUISITES = frozenset({"Namespace", "CustomResourceDefinition", *MISSED})
TAKE = "look at the difference with diff, then apply with take_ownership=True, or leave the field out of the manifest"
SCALERS = (("autoscaling/v2", "HorizontalPodAutoscaler"), ("keda.sh/v1alpha1", "ScaledObject"))


@dataclass(frozen=True)
class Step:
    """One object: as it is wanted, as it is, as it would be; `merged` is None when only doing it can tell."""

    ref: Reference
    wanted: Object
    live: Object | None
    merged: Object | None
    action: Action
    growth: tuple[Growth, ...] = ()  # of the volume claim templates of a StatefulSet

    @property
    def terminating(self) -> bool:
        """It is there, but on its way out."""
        return bool(self.live and self.live["metadata"].get("deletionTimestamp"))

    @property
    def once(self) -> bool:
        """It is created when it is absent, and never compared."""
        return _once(self.wanted)

    def done(self, applied: Object) -> "Step":
        """The same step when it was made: what no dry run could tell is known now."""
        live = None if self.terminating else self.live
        return replace(self, action=_action(live, applied))

    def slim(self) -> "Step":
        """Without the objects that are needed no more: of thousands they take the most memory."""
        return self if self.action != "unchanged" else replace(self, live=None, merged=None)


@dataclass(frozen=True)
class Scaled:
    """What autoscalers scale: kind, namespace, name. Its replicas are theirs."""

    targets: frozenset[tuple[str, str, str]] = frozenset()

    @classmethod
    def read(cls, api: Api, objects: Sequence[Object]) -> "Scaled":
        """From the autoscalers of the cluster and of the set; they are not asked for when nothing has replicas."""
        if not any("replicas" in (obj.get("spec") or {}) for obj in objects):
            return cls()
        known = [kind for kind in SCALERS if api.discovery.knows(*kind)]
        live = [scaler for kind in known for scaler in api.list(*kind)]
        scalers = [*live, *(obj for obj in objects if (obj["apiVersion"], obj["kind"]) in SCALERS)]
        return cls(frozenset(map(_scaled_by, scalers)))

    def without_replicas(self, obj: Object, live: Object | None) -> Object:
        """The object without its replicas, if something scales it.

        A field that only we own would be reset to its default by leaving it out: it is sent as it is, then.
        """
        ref = reference(obj)
        target = (ref.kind, ref.namespace, ref.name)
        if "replicas" not in (obj.get("spec") or {}):
            return obj
        if target not in self.targets and annotation(obj, AUTOSCALED) != "true":
            return obj
        spec = {key: value for key, value in obj["spec"].items() if key != "replicas"}
        if live and _sole_owner_of_replicas(live):
            spec["replicas"] = live["spec"]["replicas"]
        return {**obj, "spec": spec}


def _scaled_by(scaler: Object) -> tuple[str, str, str]:
    target = scaler["spec"].get("scaleTargetRef") or {}
    namespace = scaler["metadata"].get("namespace", "")
    return target.get("kind") or "Deployment", namespace, target.get("name", "")


def _sole_owner_of_replicas(live: Object) -> bool:
    entries = live["metadata"].get("managedFields") or []
    owners = [each for each in entries if "f:replicas" in ((each.get("fieldsV1") or {}).get("f:spec") or {})]
    return bool(owners) and all((each["manager"], each["operation"]) == (MANAGER, "Apply") for each in owners)


@dataclass(frozen=True)
class Surroundings:
    """What a plan needs to know beside the one object: the set that it is part of, and what the cluster has of it."""

    objects: Sequence[Object]
    live: Mapping[Reference, Object]
    scaled: Scaled = field(default_factory=Scaled)

    @cached_property
    def coming(self) -> frozenset[Reference]:
        """What the set brings and the cluster does not have yet, or has on its way out."""
        refs = map(reference, self.objects)
        return frozenset(ref for ref in refs if ref not in self.live or _terminating(self.live[ref]))

    @cached_property
    def definitions(self) -> frozenset[tuple[str, str]]:
        """Group and kind of what the set defines."""
        return frozenset((each["spec"]["group"], each["spec"]["names"]["kind"]) for each in crds(self.objects))

    @cached_property
    def spaces(self) -> frozenset[str]:
        """Namespaces that the set brings."""
        return frozenset(ref.name for ref in self.coming if ref.kind == "Namespace")

    def lacks_namespace(self, ref: Reference) -> bool:
        """Whether its namespace comes with the set."""
        return ref.namespace in self.spaces

    def brings_later(self, error: KubeError, ref: Reference) -> bool:
        """Whether the set itself brings what the server misses now, so that only applying it will tell.

        That is a new kind, a kind that is about to learn a field, a namespace, or what a pod refers to.
        """
        if isinstance(error, UnknownKindError) or (isinstance(error, ApiError) and error.status in SCHEMA):
            return (ref.group, ref.kind) in self.definitions
        if not isinstance(error, ApiError) or error.status not in {NOT_FOUND, FORBIDDEN}:
            return False
        if self.lacks_namespace(ref):
            return True
        return any(MISSED[each.kind].format(each.name) in error.message for each in self.coming if each.kind in MISSED)


def plan(
    api: Api,
    objects: Sequence[Object],
    *,
    force: bool,
    adopt: Collection[str] | None = None,
    expected: Sequence[Object] = (),
) -> list[Step]:
    """A step for every object.

    Args:
        objects: prepared ones.
        force: take over fields of other managers.
        adopt: names of live objects that may be taken over; None takes over any.
        expected: what will be applied before these objects, and may be absent now.

    Raises:
        ApplyConflict: another manager owns a field, and `force` is off. KubeError: an object is not ours, or the
            server would refuse it.
    """
    live = api.get_many(map(reference, objects))
    if adopt is not None:
        refuse_foreign((live[ref] for ref in map(reference, objects) if ref in live), adopt)
    before = [obj for obj in expected if obj["kind"] in PREREQUISITES]
    around = Surroundings([*objects, *before], live | api.get_many(map(reference, before)), Scaled.read(api, objects))
    # The server waits 50 ms for a missing namespace before it refuses: those are many at once, at no cost to it.
    waiting = [obj for obj in objects if around.lacks_namespace(reference(obj))]
    others = [obj for obj in objects if not around.lacks_namespace(reference(obj))]
    steps, failed = list[Step](), list[tuple[Object, KubeError]]()
    for some, threads in ((others, THREADS), (waiting, WAITING_THREADS)):
        done, refused = each(lambda obj: _plan(api, obj, around, force=force).slim(), some, threads=threads)
        steps += done
        failed += refused
    if failed:
        raise refuse(failed)
    return steps


def _plan(api: Api, obj: Object, around: Surroundings, *, force: bool) -> Step:
    ref = reference(obj)
    live = around.live.get(ref)
    if live and _terminating(live):
        return Step(ref, obj, live, None, "created")
    if live and _once(obj):
        return Step(ref, obj, live, live, "unchanged")
    if live and (annotation(live, ADOPTED) or not ours(live)):
        obj = annotated(obj, ADOPTED, "true")
    obj, growth = around.scaled.without_replicas(obj, live), growing(obj, live)
    try:
        merged = api.apply(with_live_sizes(obj, live) if live and growth else obj, force=force, dry_run=True)
    except KubeError as error:
        if around.brings_later(error, ref) or "does not support dry run" in str(error):
            return Step(ref, obj, live, None, "configured" if live else "created")
        raise explained(error, ref) from None
    if growth:
        return Step(ref, obj, live, grown(merged, growth), "configured", growth)
    return Step(ref, obj, live, merged, _action(live, merged))


def _once(obj: Object) -> bool:
    return annotation(obj, APPLY_ONCE) == "once"


def _terminating(live: Object) -> bool:
    return bool(live["metadata"].get("deletionTimestamp"))


def ours(live: Object) -> bool:
    """Whether a platform applied it: by its labels, or by the field manager of versions that set no labels."""
    own = labels(live)
    if LAYER_LABEL in own or own.get(MANAGED_BY) == MANAGER:
        return True
    entries = live["metadata"].get("managedFields") or []
    return any((each.get("manager"), each.get("operation")) == (MANAGER, "Apply") for each in entries)


def refuse_foreign(found: Iterable[Object], adopt: Collection[str]) -> None:
    """Raise when live objects are neither ours nor named. Raises: KubeError, with the whole list."""
    foreign = sorted(reference(obj) for obj in found if not ours(obj) and not _terminating(obj))
    refused = [ref for ref in foreign if ref.adopted_as not in adopt]
    if not refused:
        return
    names = ", ".join(ref.adopted_as for ref in refused)
    shown = "\n    ".join(map(str, refused))
    raise KubeError(
        f"nothing was changed: {len(refused)} object(s) exist that no platform applied\n    {shown}",
        fix=f"to take them over, name them: adopt: [{names}]; adopted objects are changed, and never deleted",
    )


def _action(live: Object | None, merged: Object) -> Action:
    if live is None:
        return "created"
    same = comparable(live) == comparable(merged) and _owned(live) == _owned(merged)
    return "unchanged" if same else "configured"


def comparable(obj: Object) -> Object:
    """An object without its status and without what the server alone keeps.

    Comparing `resourceVersion` would find a change whenever a controller writes a status in between.
    """
    metadata = {key: value for key, value in obj["metadata"].items() if key not in OF_THE_SERVER}
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


def _owned(obj: Object) -> Any:
    """The fields that this package manages: to take over an equal value is a change as well."""
    entries = obj["metadata"].get("managedFields") or []
    return [entry["fieldsV1"] for entry in entries if entry["manager"] == MANAGER and entry["operation"] == "Apply"]


def crds(objects: Iterable[Object]) -> Iterator[Object]:
    """The CustomResourceDefinitions among objects."""
    return (obj for obj in objects if obj["kind"] == "CustomResourceDefinition")


def explained(error: KubeError, ref: Reference) -> KubeError:
    """The same error, with a fix where the server's words do not give one."""
    if not isinstance(error, ApiError):
        return error
    if error.status == CONFLICT and any(cause.get("reason") == "FieldManagerConflict" for cause in error.causes):
        return ApplyConflict(f"{ref}: {'; '.join(map(_conflict, error.causes))}", fix=TAKE)
    if error.status == NOT_FOUND and ref.namespace:
        return KubeError(error.message, fix=f"create the namespace {ref.namespace}, or apply it along with its objects")
    if error.status == FORBIDDEN and "exceeded quota" in error.message:
        return KubeError(error.message, fix=f"raise the quota of the namespace {ref.namespace}, or ask for less")
    if error.status == INVALID and any(words in error.message for words in IMMUTABLE):
        return KubeError(error.message, fix=_immutable(ref))
    return error


def _immutable(ref: Reference) -> str:
    if ref.kind in REPLACEABLE:
        return f"the server never changes this field: delete {ref}, then apply again; what runs of it is started anew"
    return f"the server never changes this field of {ref}: set it back, or give the new object another name"


def _conflict(cause: Mapping[str, str]) -> str:
    """`conflict with "kubectl-edit" using apps/v1` at `.spec.replicas`, in words."""
    manager = cause.get("message", "").removeprefix("conflict with ")
    return f"{cause.get('field', '').lstrip('.')} is owned by {manager}"


def refuse(failed: Sequence[tuple[object, KubeError]]) -> KubeError:
    """The error of a plan that cannot be carried out."""
    heading = f"nothing was changed: {len(failed)} object(s) cannot be applied"
    error = combine_errors(failed, heading=heading)
    if all(isinstance(each, ApplyConflict) for _, each in failed):
        message = str(error).split("\n  fix:", maxsplit=1)[0]
        return ApplyConflict(message, fix=error.fix)
    return error


def apply(
    api: Api,
    objects: Sequence[Object],
    *,
    layer: str,
    adopt: Collection[str] = frozenset(),
    expected: Sequence[Object] = (),
    dry_run: bool = False,
    take_ownership: bool = False,
    on_event: OnEvent | None = None,
) -> "pd.DataFrame":
    """See `Kube.apply`."""
    began, wanted = time.monotonic(), _unique([prepared(obj, layer) for obj in objects])
    if not dry_run:
        _settle(api, wanted)
    steps = plan(api, wanted, force=take_ownership, adopt=adopt, expected=expected)
    claims = {step.ref: expansions(api, step.ref, step.growth) for step in steps if step.growth}
    if not dry_run:
        inventory.record(api, layer, [step.ref for step in steps])
        make = Change(api, take_ownership, claims, _teller(on_event, steps, began))
        steps = _execute(steps, make)
    rows = [{**step.ref.row, "action": step.action} for step in sorted(steps, key=lambda step: step.ref.order)]
    return frame([*rows, *(one.row(dry_run=dry_run) for found in claims.values() for one in found)], COLUMNS)


def _unique(objects: Objects) -> Objects:
    """Two texts for one object would overwrite each other at every apply."""
    seen: set[tuple[str, ...]] = set()
    for ref in map(reference, objects):
        if ref.identity in seen:
            raise KubeError(f"{ref} stands twice among the objects to apply", fix="remove one of the two")
        seen.add(ref.identity)
    return objects


def _settle(api: Api, objects: Objects) -> None:
    """Wait for namespaces and definitions that an interrupted uninstall still deletes, with all that is in them."""
    live = api.get_many(reference(obj) for obj in objects if obj["kind"] in {"Namespace", "CustomResourceDefinition"})
    wait_gone(api, {ref: obj for ref, obj in live.items() if _terminating(obj)}, timeout=GONE_WITHIN)


@dataclass(frozen=True)
class Change:
    """Makes the change of one step."""

    api: Api
    force: bool
    claims: Mapping[Reference, list[Expansion]]
    tell: Callable[[Step], None]

    def __call__(self, step: Step) -> Step:
        """Returns what was done. Raises: KubeError."""
        if step.terminating and step.live:
            wait_gone(self.api, {step.ref: step.live}, timeout=GONE_WITHIN)
        try:
            step = self._made(step).slim()
        except KubeError as error:
            raise explained(error, step.ref) from None
        self.tell(step)
        return step

    def _made(self, step: Step) -> Step:
        if step.once:
            return self._made_once(step)
        if step.growth and step.live:
            grow(self.api, step.wanted, step.live, self.claims[step.ref])
        return step.done(self.api.apply(step.wanted, force=self.force))

    def _made_once(self, step: Step) -> Step:
        """Created by POST: of two that make it, such as two passwords, the first stays."""
        try:
            self.api.create(step.wanted)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            return replace(step, action="unchanged")
        return step


def _execute(steps: Sequence[Step], make: Change) -> list[Step]:
    """Make the changes, one rank after the other; within a rank in parallel."""
    pending = {step.ref: step for step in steps if step.action != "unchanged"}
    finished = [step for step in steps if step.action == "unchanged"]
    for rank in by_rank(pending):
        done, failed = each(make, [pending[ref] for ref in rank])
        finished += done
        if failed:
            rest = len(steps) - len(finished)
            heading = f"{rest} of {len(pending)} changes were not made; apply again to go on"
            raise combine_errors(failed, heading=heading)
        for definition in crds(step.wanted for step in done):
            _wait_served(make.api, definition)
    return finished


def _wait_served(api: Api, definition: Object) -> None:
    """Until the kinds of a new definition are known to discovery, their instances cannot be applied."""
    if not poll(lambda: _served(api, definition), timeout=SERVED_WITHIN, interval=0.5):
        ref = reference(definition)
        raise KubeError(f"{ref} is not served {SERVED_WITHIN} s after it was applied: {_conditions(api, ref)}")


def _served(api: Api, definition: Object) -> bool:
    spec, live = definition["spec"], api.get(reference(definition)) or {}
    conditions = (live.get("status") or {}).get("conditions") or []
    established = any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
    served = [f"{spec['group']}/{version['name']}" for version in spec["versions"] if version.get("served")]
    return established and all(api.discovery.knows(version, spec["names"]["kind"]) for version in served)


def _conditions(api: Api, ref: Reference) -> str:
    conditions = ((api.get(ref) or {}).get("status") or {}).get("conditions") or []
    return "; ".join(f"{each['type']}={each['status']} {each.get('message', '')}".strip() for each in conditions)


def _teller(on_event: OnEvent | None, steps: Sequence[Step], began: float) -> Callable[[Step], None]:
    total, done = sum(step.action != "unchanged" for step in steps), iter(range(1, len(steps) + 1))

    def tell(step: Step) -> None:
        if on_event:
            detail = f"{step.ref} {step.action}"
            on_event(Progress("apply", next(done), total, time.monotonic() - began, detail))

    return tell
