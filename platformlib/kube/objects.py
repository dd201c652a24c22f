"""Objects as dicts: read from YAML, their references, their order, the labels that every object of the platform has."""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from platformlib.errors import KubeError

Object = dict[str, Any]
Objects = list[Object]

MERGE = "tag:yaml.org,2002:merge"

MANAGER = "platformlib"
LAYER_LABEL = "platformlib.io/layer"
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "app.kubernetes.io/part-of"
# Annotations of rendered objects:
APPLY_ONCE = "platformlib.io/apply"  # "once": created when it is absent, and never compared
AUTOSCALED = "platformlib.io/autoscaled"  # "true": its replicas are left to whoever scales it
DATA = "platformlib.io/data"  # "true": kept by prune and uninstall unless it is named; "false": a claim that may go
# Of a namespace or definition: patterns of Kind/name that its programs make for themselves, such as Secret/kyverno-*.
LEFTOVERS = "platformlib.io/leftovers"
# An annotation of live objects: it was there before the platform, so it is never deleted.
ADOPTED = "platformlib.io/adopted"

# Metadata that the server alone sets.
OF_THE_SERVER = frozenset({"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"})

# What others refer to comes first. What can refuse or redirect requests (webhooks, aggregated APIs) comes after the
# workloads that serve it. Kinds that Kubernetes itself does not have stand at CUSTOM.
CUSTOM = "*"
ORDER: tuple[frozenset[str], ...] = (
    frozenset({"Namespace"}),
    frozenset({"CustomResourceDefinition"}),
    frozenset({"PriorityClass", "ResourceQuota", "LimitRange", "StorageClass", "RuntimeClass", "IngressClass"}),
    frozenset({"ServiceAccount", "Secret", "ConfigMap", "NetworkPolicy"}),
    frozenset({"Role", "ClusterRole"}),
    frozenset({"RoleBinding", "ClusterRoleBinding"}),
    frozenset({"PersistentVolume", "PersistentVolumeClaim", "Service"}),
    frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob"}),
    frozenset({"PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress"}),
    frozenset({CUSTOM}),
    frozenset({"APIService"}),
    frozenset({
        "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
        "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }),
)  # fmt: skip
RANK = {kind: rank for rank, kinds in enumerate(ORDER) for kind in kinds}


@dataclass(frozen=True, order=True)
class Reference:
    """Which object: enough to find it again, and nothing of what it holds."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def adopted_as(self) -> str:
        """How `adopt` names it, such as ConfigMap/shop/web."""
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))

    @property
    def data_name(self) -> str:
        """How `delete_data` names it, such as shop or observability/storage-loki-0."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """The same object under any version of its API."""
        return self.group, self.kind, self.namespace, self.name

    @property
    def rank(self) -> int:
        """Where its kind stands in the order of applying."""
        builtin = "." not in self.group or self.group.endswith(".k8s.io")
        return RANK.get(self.kind if builtin else CUSTOM, RANK[CUSTOM])

    @property
    def order(self) -> tuple[int, "Reference"]:
        """Its place in the order of applying."""
        return self.rank, self

    @property
    def row(self) -> dict[str, str]:
        """Its columns in a result table."""
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name}


def reference(obj: Mapping[str, Any]) -> Reference:
    """The reference of an object.

    Raises:
        KubeError: an object without apiVersion, kind or metadata.name.
    """
    metadata = obj.get("metadata") or {}
    found = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata.name": metadata.get("name")}
    missing = [field for field, value in found.items() if not value]
    if missing:
        raise KubeError(f"an object ({found['kind']} {found['metadata.name']}) has no {', '.join(missing)}")
    return Reference(
        str(obj["apiVersion"]), str(obj["kind"]), str(metadata.get("namespace") or ""), str(metadata["name"])
    )


def by_rank(references: Iterable[Reference]) -> list[list[Reference]]:
    """References in order of applying, one list for each rank that occurs."""
    ranked: dict[int, list[Reference]] = {}
    for ref in sorted(set(references)):
        ranked.setdefault(ref.rank, []).append(ref)
    return [ranked[rank] for rank in sorted(ranked)]


# Terminals obey these: escape sequences, and marks that turn the direction of the text.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A cluster's own words, such as a log line, so that a terminal shows them and does not obey them."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an object."""
    return obj["metadata"].get("labels") or {}


def annotation(obj: Mapping[str, Any], name: str) -> str:
    """One annotation of an object, or nothing."""
    return str((obj["metadata"].get("annotations") or {}).get(name) or "")


def annotated(obj: Object, name: str, value: str) -> Object:
    """A copy with one more annotation."""
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), name: value}}}


def prepared(obj: Object, layer: str | None) -> Object:
    """A copy as it is sent: labelled, without what only a server sets, and with `stringData` encoded.

    A server keeps `stringData` as `data`, so applied as it is it would differ from the live object for ever.
    """
    reference(obj)
    own = {MANAGED_BY: MANAGER} | ({LAYER_LABEL: layer} if layer else {})
    metadata = {key: value for key, value in obj["metadata"].items() if key not in OF_THE_SERVER}
    metadata["labels"] = {PART_OF: MANAGER, **labels(obj), **own}
    copy = {**obj, "metadata": metadata}
    copy.pop("status", None)
    if copy["kind"] == "Secret" and copy["apiVersion"] == "v1":
        _encode(copy)
    return copy


def _encode(secret: Object) -> None:
    from base64 import b64encode

    plain = secret.pop("stringData", None) or {}
    wrong = [key for key, value in {**plain, **(secret.get("data") or {})}.items() if not isinstance(value, str)]
    if wrong:
        raise KubeError(f"{reference(secret)}: {', '.join(wrong)}: not a string", fix="quote the value")
    if plain:
        encoded = {key: b64encode(value.encode()).decode() for key, value in plain.items()}
        secret["data"] = (secret.get("data") or {}) | encoded


def parse(text: str, *, source: str = "manifest") -> list[Object]:
    """The objects of a YAML text; empty documents are skipped, a `List` is opened.

    Raises:
        KubeError: broken YAML, a key that stands twice in one mapping, or an object without kind, apiVersion or name.
    """
    import yaml

    try:
        documents = list(yaml.load_all(text, Loader=_loader()))  # a SafeLoader, made stricter
    except yaml.YAMLError as error:
        raise KubeError(f"{source}: {_where(error)}") from None
    objects = [obj for number, document in enumerate(documents, 1) for obj in _open(document, f"{source}[{number}]")]
    for obj in objects:
        reference(obj)
    return objects


def _open(document: Any, source: str) -> Iterator[Object]:
    if document is None:
        return
    if not isinstance(document, dict):
        raise KubeError(f"{source}: {type(document).__name__} where an object was expected")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _open(item, source)
    else:
        yield document


def _where(error: Exception) -> str:
    """The problem and its line; never the lines themselves, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        """YAML as the API server reads it: a date stays a string, `=` is a value, a key stands once."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.tag != MERGE and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(str(key.value))
            mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
            return mapping

    as_text = yaml.SafeLoader.construct_yaml_str
    Loader.add_constructor("tag:yaml.org,2002:timestamp", as_text)
    Loader.add_constructor("tag:yaml.org,2002:value", as_text)
    return Loader
