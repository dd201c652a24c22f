"""What a namespace holds and which instances a definition has: what would be lost with them."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from platformlib.errors import ApiError, KubeError
from platformlib.kube.api import Api, UnknownKindError
from platformlib.kube.batch import combine_errors, each
from platformlib.kube.objects import (
    ADOPTED,
    DATA,
    LAYER_LABEL,
    LEFTOVERS,
    Object,
    Objects,
    Reference,
    annotation,
    labels,
    reference,
)
from platformlib.kube.session import NOT_FOUND

CLAIM = ("v1", "PersistentVolumeClaim")
WITHIN = 10.0  # seconds of retries: an API that does not answer is a reason to keep what it may hold
# What the cluster makes and remakes by itself.
OF_THE_CLUSTER = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision"})
MADE_FOR_ALL = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
TOKEN = "kubernetes.io/service-account.name"  # noqa: S105  an annotation
NOT_ALLOWED = 405


def held(api: Api, namespace: Object, going: frozenset[Reference], layer: str) -> str:
    """What would be lost with a namespace, in words; nothing when it is empty or all is the layer's own.

    Args:
        namespace: the live object; its annotation `platformlib.io/leftovers` lists patterns such as
            `Secret/kyverno-*` of what its programs make for themselves.
        going: what is deleted with it, such as named claims.
    """
    try:
        found = [obj for obj in _everything(api, namespace["metadata"]["name"]) if reference(obj) not in going]
    except KubeError as error:
        return f"cannot see what it holds: {str(error).splitlines()[0]}"
    claims = [obj for obj in found if _is_claim(obj)]
    others = [obj for obj in found if obj not in claims and _of_others(obj, namespace, layer)]
    words = [*_count(others, "object", " of others"), *_count(claims, "claim")]
    return f"holds {' and '.join(words)}" if words else ""


def instances(api: Api, definition: Object, going: frozenset[Reference], layer: str) -> str:
    """Which instances would be lost with a CustomResourceDefinition, in words; nothing when all are the layer's own."""
    spec = definition["spec"]
    served = next((each["name"] for each in spec["versions"] if each.get("served")), None)
    if served is None:
        return ""
    try:
        found = api.with_retry_timeout(WITHIN).list_metadata(f"{spec['group']}/{served}", spec["names"]["kind"])
    except UnknownKindError:
        return ""
    except KubeError as error:
        return f"cannot see its instances: {str(error).splitlines()[0]}"
    others = [obj for obj in found if reference(obj) not in going and _of_others(obj, definition, layer)]
    return "".join(f"has {words}" for words in _count(others, "instance", " of others"))


def of_nobody(api: Api, namespace: Object) -> Objects:
    """What a namespace holds that no layer applied, claims included; parts of other objects are left out.

    Raises:
        KubeError: a kind cannot be listed.
    """
    return [
        obj
        for obj in _everything(api, namespace["metadata"]["name"])
        if not labels(obj).get(LAYER_LABEL) and (_is_claim(obj) or _of_others(obj, namespace, ""))
    ]


def _is_claim(obj: Object) -> bool:
    return (obj["apiVersion"], obj["kind"]) == CLAIM


def _count(found: Objects, noun: str, rest: str = "") -> list[str]:
    return [f"{len(found)} {noun}{'s' if len(found) > 1 else ''}{rest}"] if found else []


def _everything(api: Api, namespace: str) -> Iterator[Object]:
    hasty = api.with_retry_timeout(WITHIN)
    lists, failed = each(lambda kind: _listed(hasty, *kind, namespace), hasty.discovery.deletable())
    if failed:
        raise combine_errors(failed, heading=f"{len(failed)} kinds cannot be listed")
    return (obj for listed in lists for obj in listed)


def _listed(api: Api, api_version: str, kind: str, namespace: str) -> Objects:
    if kind in OF_THE_CLUSTER:
        return []
    try:
        return api.list_metadata(api_version, kind, namespace)
    except UnknownKindError:
        return []
    except ApiError as error:
        if error.status not in {NOT_FOUND, NOT_ALLOWED}:
            raise
        return []


def _of_others(obj: Object, inside: Object, layer: str) -> bool:
    """Adopted, or data, or neither the layer's nor made by another object, the cluster or a known program."""
    metadata, kind = obj["metadata"], obj["kind"]
    if annotation(obj, ADOPTED) or annotation(obj, DATA) == "true":
        return True
    if labels(obj).get(LAYER_LABEL) == layer or metadata.get("ownerReferences"):
        return False
    if (kind, metadata["name"]) in MADE_FOR_ALL or annotation(obj, TOKEN):
        return False
    patterns = annotation(inside, LEFTOVERS).replace(",", " ").split()
    return not any(fnmatchcase(f"{kind}/{metadata['name']}", pattern) for pattern in patterns)


def claims_of(api: Api, sets: Iterable[Object]) -> list[Reference]:
    """The claims that StatefulSets made of their templates."""
    found = []
    for live in sets:
        namespace = live["metadata"]["namespace"]
        names = [each["metadata"]["name"] for each in live["spec"].get("volumeClaimTemplates") or []]
        stems = tuple(f"{name}-{live['metadata']['name']}-" for name in names)
        for claim in api.list_metadata(*CLAIM, namespace) if stems else []:
            name = claim["metadata"]["name"]
            if any(name.startswith(stem) and name[len(stem) :].isdecimal() for stem in stems):
                found.append(Reference(*CLAIM, namespace, name))
    return found
