"""What applying one object would do, found by the server's own dry run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from platformlib.errors import ApiError, ApplyConflict, KubeError
from platformlib.kube.api import Api, UnknownKindError
from platformlib.kube.objects import MANAGER, Object, Reference, reference
from platformlib.kube.parallel import combine_errors
from platformlib.kube.session import NOT_FOUND

Action = Literal["created", "configured", "unchanged"]
FORBIDDEN, CONFLICT, INVALID = 403, 409, 422
SCHEMA = frozenset({400, 422, 500})  # how a server refuses a field that it does not know
FIXED = ("immutable", "Forbidden: updates to")
OF_THE_SERVER = frozenset({"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"})


@dataclass(frozen=True)
class Step:
    """One object: as it is wanted, as it is, as it would be; `merged` is None when only doing it can tell."""

    ref: Reference
    wanted: Object
    live: Object | None
    merged: Object | None
    action: Action

    @property
    def terminating(self) -> bool:
        """It is there, but on its way out."""
        return bool(self.live and self.live["metadata"].get("deletionTimestamp"))

    def done(self, applied: Object) -> "Step":
        """The same step when it was made: what no dry run could tell is known now."""
        live = None if self.terminating else self.live
        return replace(self, merged=applied, action=_action(live, applied))


def plan(api: Api, wanted: Object, among: Sequence[Object], *, force: bool) -> Step:
    """The step for one object of a set.

    An object whose namespace or definition the same set brings cannot be tried yet: only applying it will tell.

    Raises:
        ApplyConflict: another manager owns a field, and `force` is off. KubeError: the server would refuse it.
    """
    ref, live = reference(wanted), None
    try:
        live = api.get(ref)
        if live and live["metadata"].get("deletionTimestamp"):
            return Step(ref, wanted, live, None, "created")
        merged = api.apply(wanted, force=force, dry_run=True)
    except KubeError as error:
        if _too_early(error, ref, among) or "does not support dry run" in str(error):
            return Step(ref, wanted, live, None, "configured" if live else "created")
        raise explained(error, ref) from None
    return Step(ref, wanted, live, merged, _action(live, merged))


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


def _too_early(error: KubeError, ref: Reference, among: Sequence[Object]) -> bool:
    """A new kind, a kind whose definition may be about to learn a field, or a namespace that is not there."""
    kinds = {(each["spec"]["group"], each["spec"]["names"]["kind"]) for each in crds(among)}
    if isinstance(error, UnknownKindError) or (isinstance(error, ApiError) and error.status in SCHEMA):
        return (ref.group, ref.kind) in kinds
    if not (isinstance(error, ApiError) and error.status in (NOT_FOUND, FORBIDDEN)):
        return False
    return any(each["kind"] == "Namespace" and each["metadata"]["name"] == ref.namespace for each in among)


def explained(error: KubeError, ref: Reference) -> KubeError:
    """The same error, with a fix where the server's words do not give one."""
    if not isinstance(error, ApiError):
        return error
    if error.status == CONFLICT and any(cause.get("reason") == "FieldManagerConflict" for cause in error.causes):
        return ApplyConflict(f"{ref}: {'; '.join(map(_conflict, error.causes))}", fix=TAKE)
    if error.status == NOT_FOUND and ref.namespace:
        return KubeError(error.message, fix=f"create the namespace {ref.namespace}, or apply it along with its objects")
    if error.status == INVALID and any(words in error.message for words in FIXED):
        return KubeError(error.message, fix=f"the server never changes this field: delete {ref}, then apply again")
    return error


TAKE = "look at the difference with diff, then apply with take_ownership=True, or leave the field out of the manifest"


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
