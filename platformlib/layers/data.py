"""The data of a platform: what uninstall keeps unless it is named, and how it goes when it is.

Data are namespaces with content that the platform did not make, claims of volumes, and definitions of kinds that have
instances. A namespace is named "shop", a claim "shop/files", a definition "widgets.example.org".
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from platformlib.errors import PlatformError, WaitTimeout
from platformlib.kube import Reference
from platformlib.polling import poll

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

Object = dict[str, Any]
COLUMNS = ["kind", "namespace", "name", "objects", "claims", "bytes"]
CLAIM, VOLUME = ("v1", "PersistentVolumeClaim"), ("v1", "PersistentVolume")
DELETED = "deleted"


def table(kube: "Kube") -> "pd.DataFrame":
    """What would be lost if it were named: the argument of `delete_data` is the last part of `name`.

    Returns:
        Columns: kind, namespace, name, objects (in it, that the platform did not make), claims, bytes (the claims'
        capacity).
    """
    import pandas as pd

    return pd.DataFrame(list(_held(kube)), columns=COLUMNS)


def _held(kube: "Kube") -> Iterator[dict[str, Any]]:
    claims = kube.list(*CLAIM)
    for namespace, count in kube.foreign_content().items():
        own = [each for each in claims if each["metadata"]["namespace"] == namespace]
        size = sum(map(_bytes, own))
        yield _row("Namespace", "", namespace, objects=count, claims=len(own), bytes=size)
        for each in own:
            name = each["metadata"]["name"]
            yield _row("PersistentVolumeClaim", namespace, name, objects=1, claims=1, bytes=_bytes(each))
    for name, count in kube.foreign_instances().items():
        yield _row("CustomResourceDefinition", "", name, objects=count, claims=0, bytes=0)


def _row(kind: str, namespace: str, name: str, **counts: int) -> dict[str, Any]:
    return {"kind": kind, "namespace": namespace, "name": name, **counts}


def _bytes(claim: Object) -> int:
    from kubernetes.utils.quantity import parse_quantity

    given = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    asked = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return int(parse_quantity(given or asked or "0"))  # type: ignore[no-untyped-call]
