"""The data of a platform: what uninstall keeps unless it is named, and how it goes when it is.

Data are the namespaces of applications and those with content that the platform did not make, claims of volumes, and
definitions of kinds that have instances. Their names in `delete_data`: "shop" for a namespace with all that is in it,
"shop/files" for a claim, "widgets.example.org" for a definition.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from platformlib.errors import KubeError, WaitTimeout
from platformlib.kube import Reference
from platformlib.kube.contents import CLAIM, of_nobody
from platformlib.kube.deletion import ABSENT, DEFINITION, DELETED, WOULD_DELETE
from platformlib.kube.objects import DATA, LAYER_LABEL, annotation, labels
from platformlib.polling import poll

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

Object = dict[str, Any]
COLUMNS = ["kind", "namespace", "name", "delete_data", "objects", "claims", "bytes"]
KEPT = "kept"


def table(kube: "Kube", delete_data: Collection[str] = ()) -> "pd.DataFrame":
    """The data of the platform, and what becomes of it when the platform is removed.

    Args:
        delete_data: what is to go.

    Returns:
        Columns: kind, namespace, name, delete_data (the name to give), objects (that the platform did not make; NA
        when the cluster does not tell), claims, bytes (capacity of the claims), fate (deleted, kept; absent for a
        name that nothing has, which may have been deleted by an earlier run).
    """
    import pandas as pd

    rows = [
        row | {"fate": DELETED if {row["delete_data"], row["namespace"]} & {*delete_data} else KEPT}
        for row in _held(kube)
    ]
    unknown = sorted(set(delete_data) - {row["delete_data"] for row in rows})
    rows += [_row("", "", "", name, 0, 0, 0) | {"fate": ABSENT} for name in unknown]
    return pd.DataFrame(rows, columns=[*COLUMNS, "fate"]).astype({"objects": "Int64"})


def _held(kube: "Kube") -> Iterator[dict[str, Any]]:
    claims = kube.list(*CLAIM)
    for space in kube.list("v1", "Namespace", label_selector=LAYER_LABEL):
        name = space["metadata"]["name"]
        own = [each for each in claims if each["metadata"]["namespace"] == name]
        count = _count(kube, space)
        if count != 0 or annotation(space, DATA) == "true":
            yield _row("Namespace", "", name, name, count, len(own), sum(map(_capacity, own)))
        for each in own:
            claim = each["metadata"]["name"]
            yield _row(CLAIM[1], name, claim, f"{name}/{claim}", 1, 1, _capacity(each))
    for definition in kube.list(*DEFINITION, label_selector=LAYER_LABEL):
        name = definition["metadata"]["name"]
        if count := _instances(kube, definition):
            yield _row(DEFINITION[1], "", name, name, count, 0, 0)


def _count(kube: "Kube", namespace: Object) -> int | None:
    try:
        return len(of_nobody(kube.api, namespace))
    except KubeError:
        return None


def _instances(kube: "Kube", definition: Object) -> int:
    """How many instances the platform did not make; what an object owns is a part of it."""
    spec = definition["spec"]
    version = next(each["name"] for each in spec["versions"] if each.get("served"))
    live = kube.api.list_metadata(f"{spec['group']}/{version}", spec["names"]["kind"])
    return sum(not (labels(each).get(LAYER_LABEL) or each["metadata"].get("ownerReferences")) for each in live)


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

    rows = _release_volumes(kube, kube.inventory(layer), delete_data=delete_data, timeout=timeout)
    done = kube.uninstall(layer, delete_data=delete_data, timeout=timeout, on_event=on_event)
    return pd.concat([pd.DataFrame(rows), done], ignore_index=True) if rows else done


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
    volumes = {each["metadata"]["name"]: each for each in _volumes(kube, classes)}
    bound = {name: _claim(each) for name, each in volumes.items() if each["status"].get("phase") == "Bound"}
    kept = {name: claim for name, claim in bound.items() if not {claim.namespace, claim.data_name} & {*delete_data}}
    going = {_holder(kube, claim, delete_data) for name, claim in bound.items() if name not in kept}
    rows = [
        {"kind": "PersistentVolume", "namespace": "", "name": name, "action": f"kept, data of {claim.data_name}"}
        for name, claim in kept.items()
    ]
    if kube.dry_run:
        return rows + [ref.row | {"action": WOULD_DELETE} for ref in sorted(going)]
    rows += [ref.row | {"action": DELETED if kube.delete(ref, timeout=timeout) else ABSENT} for ref in sorted(going)]

    def left() -> list[str]:
        return [name for each in _volumes(kube, classes) if (name := each["metadata"]["name"]) not in kept]

    if not poll(lambda: not left(), timeout=timeout):
        names = ", ".join(left())
        raise WaitTimeout(
            f"volumes not removed after {timeout:.0f} s: {names}", fix="does the provisioner run? Then run this again"
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
    """What to delete for a named claim: the application's namespace if that was named, since its pods use the claim."""
    space = kube.get("v1", "Namespace", claim.namespace) or {"metadata": {}}
    if claim.namespace in delete_data and annotation(space, DATA) == "true":
        return Reference("v1", "Namespace", "", claim.namespace)
    return claim
