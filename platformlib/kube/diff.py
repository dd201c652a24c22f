"""Field by field: what is, against what applying would make of it. The server's dry run decides, nothing is changed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from platformlib.kube import inventory
from platformlib.kube.api import Api
from platformlib.kube.apply import Step, comparable, plan
from platformlib.kube.batch import frame
from platformlib.kube.deletion import WOULD_DELETE, Removal
from platformlib.kube.objects import LAYER_LABEL, Object, Reference, labels, prepared, reference

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "namespace", "name", "field", "live", "wanted")
ABSENT, MASKED = "(absent)", "(secret)"
# The keys by which the server merges lists of mappings; what has none of them is told by its position.
MERGE_KEYS = ("name", "mountPath", "containerPort", "port", "ip", "topologyKey", "key", "type")
Change = tuple[str, Any, Any]
# What leaves every value as it is.
REORDERED: Change = ("(order)", "items of a list", "in another order")
TAKEN_OVER: Change = ("metadata.managedFields", "owned by others", "owned by platformlib")


def diff(
    api: Api, objects: Sequence[Object], *, layer: str | None = None, expected: Sequence[Object] = ()
) -> "pd.DataFrame":
    """See `Kube.diff`."""
    steps = plan(api, _labelled(api, objects, layer), force=True, expected=expected)
    extra = inventory.surplus(api, layer, [step.ref for step in steps]) if layer else []
    gone = [ref for ref, action in Removal(api, layer or "", frozenset()).look(extra).items() if action == WOULD_DELETE]
    rows = [row for step in steps for row in _rows(step)]
    return frame(rows + [_row(ref, ("", "(present)", ABSENT)) for ref in sorted(gone)], COLUMNS)


def _labelled(api: Api, objects: Sequence[Object], layer: str | None) -> list[Object]:
    """Without a layer's name an object keeps the layer that it has: that is no difference."""
    if layer:
        return [prepared(obj, layer) for obj in objects]
    live = api.get_many(map(reference, objects))
    owners = {ref: labels(obj).get(LAYER_LABEL) for ref, obj in live.items()}
    return [prepared(obj, owners.get(reference(obj))) for obj in objects]


def _rows(step: Step) -> Iterator[dict[str, Any]]:
    if step.action == "unchanged":
        return
    if step.live is None or step.terminating:
        yield _row(step.ref, ("", "(being deleted)" if step.terminating else ABSENT, "(present)"))
    elif step.merged is None:
        yield _row(step.ref, ("", "(present)", "(cannot be tried before its definition is applied)"))
    else:
        live, merged = comparable(step.live), comparable(step.merged)
        for change in list(changes(live, merged)) or [REORDERED if live != merged else TAKEN_OVER]:
            yield _row(step.ref, change)


def _row(ref: Reference, change: Change) -> dict[str, Any]:
    field, live, wanted = change
    # An annotation may hold the whole object: kubectl writes one.
    if ref.kind == "Secret" and field.startswith(("data", "metadata.annotations")):
        live, wanted = (value if value == ABSENT else MASKED for value in (live, wanted))
    return {**ref.row, "field": field, "live": str(live), "wanted": str(wanted)}


def changes(live: Any, wanted: Any, path: str = "") -> Iterator[Change]:
    """The leaves that differ, such as ("spec.template.spec.containers[web].image", "a:1", "a:2")."""
    if _branch(dict, live, wanted):
        old, new = ({} if side == ABSENT else side for side in (live, wanted))
        for key in sorted(old.keys() | new.keys()):
            yield from changes(old.get(key, ABSENT), new.get(key, ABSENT), _join(path, key))
    elif _branch(list, live, wanted):
        old, new = _keyed(live, wanted)
        for key in old | new:
            yield from changes(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}[{key}]")
    elif live != wanted:
        yield path, live, wanted


def _branch(kind: type, live: Any, wanted: Any) -> bool:
    """Whether there is something below: both sides are of this kind or absent, and one is not empty."""
    sides = [side for side in (live, wanted) if side != ABSENT]
    return all(isinstance(side, kind) for side in sides) and any(sides)


def _join(path: str, key: str) -> str:
    if "." in key or "/" in key:
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _keyed(live: Any, wanted: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    old, new = ([] if side == ABSENT else side for side in (live, wanted))
    merge_key = next((key for key in MERGE_KEYS if _tells_apart(key, old) and _tells_apart(key, new)), None)
    if merge_key:
        return {str(item[merge_key]): item for item in old}, {str(item[merge_key]): item for item in new}
    return {str(at): item for at, item in enumerate(old)}, {str(at): item for at, item in enumerate(new)}


def _tells_apart(key: str, items: list[Any]) -> bool:
    if not all(isinstance(item, dict) and key in item for item in items):
        return False
    return len({str(item[key]) for item in items}) == len(items)
