"""Server-side apply of many objects: a plan by dry run that may refuse everything, then the changes in order."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from platformlib.errors import KubeError
from platformlib.kube import inventory
from platformlib.kube.api import Api
from platformlib.kube.deletion import wait_gone
from platformlib.kube.objects import Object, Objects, Reference, by_rank, prepared, reference
from platformlib.kube.parallel import combine_errors, each
from platformlib.kube.plan import Step, crds, explained, plan, refuse
from platformlib.kube.report import OnEvent, Progress, frame

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "action")
GONE_WITHIN = 120  # seconds for what an earlier run has deleted
SERVED_WITHIN = 30  # seconds for a new CustomResourceDefinition to be established and discovered


def apply(
    api: Api,
    objects: Sequence[Object],
    *,
    layer: str,
    adopt: Collection[str] = frozenset(),  # noqa: ARG001
    expected: Sequence[Object] = (),
    dry_run: bool = False,
    take_ownership: bool = False,
    on_event: OnEvent | None = None,
) -> "pd.DataFrame":
    """See `Kube.apply`."""
    began, wanted = time.monotonic(), _unique([prepared(obj, layer) for obj in objects])
    if not dry_run:
        _settle(api, wanted)
    steps, failed = each(lambda obj: plan(api, obj, [*wanted, *expected], force=take_ownership), wanted)
    if failed:
        raise refuse(failed)
    if not dry_run:
        inventory.record(api, layer, [step.ref for step in steps])
        steps = _execute(api, steps, force=take_ownership, tell=_teller(on_event, steps, began))
    return frame([{**step.ref.row, "action": step.action} for step in _in_order(steps)], COLUMNS)


def _unique(objects: Objects) -> Objects:
    """Two texts for one object would overwrite each other at every apply."""
    seen: set[tuple[str, ...]] = set()
    for ref in map(reference, objects):
        if ref.identity in seen:
            raise KubeError(f"{ref} stands twice among the objects to apply", fix="remove one of the two")
        seen.add(ref.identity)
    return objects


def _settle(api: Api, objects: Objects) -> None:
    """What an interrupted uninstall still deletes would take along what is in it: a plan can be made only after."""
    going = [reference(obj) for obj in objects if obj["kind"] in ("Namespace", "CustomResourceDefinition")]
    live = [(ref, api.get(ref)) for ref in going]
    wait_gone(api, [ref for ref, obj in live if obj and obj["metadata"].get("deletionTimestamp")], timeout=GONE_WITHIN)


def _in_order(steps: Sequence[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: (step.ref.rank, step.ref))


def _execute(api: Api, steps: Sequence[Step], *, force: bool, tell: Callable[[Step], None]) -> list[Step]:
    """Change what the plan says, one rank after the other; within a rank in parallel. Returns what was done."""
    pending = {step.ref: step for step in steps if step.action != "unchanged"}
    finished = [step for step in steps if step.action == "unchanged"]
    for rank in by_rank(pending):
        done, failed = each(lambda step: _one(api, step, force=force, tell=tell), [pending[ref] for ref in rank])
        if failed:
            rest = len(pending) - sum(ref.rank < rank[0].rank for ref in pending) - len(done)
            raise combine_errors(
                failed, heading=f"{rest} of {len(pending)} changes were not made; apply again to go on"
            )
        finished += done
        for definition in crds(step.wanted for step in done):
            _served(api, definition)
    return finished


def _one(api: Api, step: Step, *, force: bool, tell: Callable[[Step], None]) -> Step:
    if step.terminating:
        wait_gone(api, [step.ref], timeout=GONE_WITHIN)
    try:
        step = step.done(api.apply(step.wanted, force=force))
    except KubeError as error:
        raise explained(error, step.ref) from None
    tell(step)
    return step


def _served(api: Api, definition: Object) -> None:
    """Until the kinds of a new definition are known to discovery, their instances cannot be applied."""
    deadline, ref = time.monotonic() + SERVED_WITHIN, reference(definition)
    while not _known(api, definition):
        if time.monotonic() > deadline:
            raise KubeError(f"{ref} is not served {SERVED_WITHIN} s after it was applied: {_conditions(api, ref)}")
        time.sleep(0.1)


def _known(api: Api, definition: Object) -> bool:
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
