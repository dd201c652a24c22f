"""Components to objects: templates that fail on an unknown name, YAML that fails on a double key."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from platformlib import composition
from platformlib.bundle.upstream import manifest
from platformlib.component import Chosen, Component
from platformlib.errors import PlatformError
from platformlib.kube import parse
from platformlib.security.examples import merged
from platformlib.settings import Settings
from platformlib.versions import image, versions

if TYPE_CHECKING:
    from jinja2 import Environment

Object = dict[str, Any]

CHECKSUM = "platformlib.io/config-checksum"
RELOADED = "platformlib.io/reloaded"  # on a ConfigMap that its program reads again by itself
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


def render(components: Iterable[Component], settings: Settings) -> list[Object]:
    """Every object of some components, in their order.

    A workload carries the checksum of the ConfigMaps that it mounts, so that a changed configuration rolls its pods.

    Raises:
        PlatformError: a manifest uses a name that does not exist. KubeError: it is not valid YAML.
    """
    members = list(components)
    objects = [*_namespaces(members, settings), *(obj for each in members for obj in objects_of(each, settings))]
    return [_with_checksum(obj, objects) for obj in objects]


def objects_of(one: Component, settings: Settings) -> Iterator[Object]:
    """Upstream's, those that its code makes, and its own manifests by name."""
    if one.upstream:
        yield from _upstream(one, settings)
    code = one.code("objects")
    if code is not None and hasattr(code, "objects"):
        yield from code.objects(settings)
    for file in one.manifests:
        yield from parse(text(one, f"manifests/{file.name}", settings), source=file.name)


def _namespaces(members: list[Component], settings: Settings) -> Iterator[Object]:
    """Where no other component of the platform makes them."""
    if composition.provider(settings, "namespaces") is None:
        own = {each.namespace.name: each.namespace for each in members if each.namespace}
        for name, namespace in own.items():
            if not (namespace.exists or composition.namespaces(settings)[name].exists):
                yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    # YAML has no markup to escape; what is inserted are validated settings.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.globals.update(image=image)
    return environment


def text(one: Component, file: str, settings: Settings) -> str:
    """A file of a component as a template; its `objects.py` may bring `names(settings)` for it."""
    from jinja2 import TemplateError

    code = one.code("objects")
    names = code.names(settings) if code is not None and hasattr(code, "names") else {}
    try:
        return _environment().from_string(one.text(file)).render(settings=settings, **names)
    except TemplateError as error:
        raise PlatformError(f"{one.name}/{file}: {error}") from None


def _with_checksum(obj: Object, objects: list[Object]) -> Object:
    if obj["kind"] not in WORKLOADS:
        return obj
    mounted = [each["data"] for each in objects if each["kind"] == "ConfigMap" and _mounts(obj, each)]
    if mounted:
        digest = hashlib.sha256(json.dumps(mounted, sort_keys=True).encode()).hexdigest()
        obj["spec"]["template"]["metadata"].setdefault("annotations", {})[CHECKSUM] = digest[:16]
    return obj


def _mounts(workload: Object, config: Object) -> bool:
    volumes = workload["spec"]["template"]["spec"].get("volumes") or []
    names = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    same_namespace = workload["metadata"]["namespace"] == config["metadata"]["namespace"]
    reloaded = RELOADED in config["metadata"].get("annotations", {})
    return same_namespace and config["metadata"]["name"] in names and not reloaded


def _upstream(one: Component, settings: Settings) -> Iterator[Object]:
    """Upstream's manifest without what is dropped, its images pinned, and `upstream.yaml` laid over it.

    A document of upstream.yaml is laid over every object of its kind, or over the one of its name.
    """
    assert one.upstream is not None  # noqa: S101 - the caller looked
    overlays = [each for each in yaml.safe_load_all(text(one, "upstream.yaml", settings)) if each]
    found = deepcopy(_parsed(one.upstream.module))
    for over in overlays:
        if not any(_is(obj, _chosen(over)) for obj in found):
            raise PlatformError(f"{one.name}/upstream.yaml: upstream has no {over['kind']} {_chosen(over).name}")
    for obj in found:
        if not any(_is(obj, drop) for drop in one.upstream.drop):
            whole = _pinned(_without_nulls(obj))
            for over in overlays:
                if _is(obj, _chosen(over)):
                    whole = merged(whole, over)
            yield whole


@cache
def _parsed(module: str) -> list[Object]:
    return parse(manifest(module), source=f"the manifest of {module}")


def _chosen(over: Object) -> Chosen:
    return Chosen(kind=over["kind"], name=over.get("metadata", {}).get("name", ""))


def _is(obj: Object, chosen: Chosen) -> bool:
    return obj["kind"] == chosen.kind and chosen.name in ("", obj["metadata"]["name"])


def _without_nulls(value: Object) -> Object:
    """Helm leaves `replicas:` and the like empty; applied as null they would take a default away."""
    return {
        key: _without_nulls(each) if isinstance(each, dict) else each for key, each in value.items() if each is not None
    }


def _pinned(obj: Object) -> Object:
    """The images of versions.yaml, by their repository."""
    if obj["kind"] not in {*WORKLOADS, "Job"}:
        return obj
    pins = {str(reference).rpartition(":")[0]: str(reference) for reference in versions()["images"].values()}
    spec = obj["spec"]["template"]["spec"]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        repository = container["image"].partition("@")[0].rpartition(":")[0]
        if repository not in pins:
            raise PlatformError(
                f"{container['image']} of {obj['metadata']['name']} has no pin", fix="see versions.yaml"
            )
        container["image"] = pins[repository]
    return obj
