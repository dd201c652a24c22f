"""Manifests and settings to objects: templates that fail on an unknown name, YAML that fails on a double key."""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

from platformlib.clusters.k3s.scrape import K3S
from platformlib.errors import PlatformError
from platformlib.kube import parse
from platformlib.layers.model import Layer, manifests
from platformlib.security.declared import excepted
from platformlib.security.objects import GENERATED
from platformlib.security.quotas import bounds_of_sizes
from platformlib.settings import Settings
from platformlib.versions import image

if TYPE_CHECKING:
    from jinja2 import Environment

Object = dict[str, Any]

SCRAPED_AS_ONE = {"k3s": K3S}  # the distributions that are one process with one registry of metrics
CHECKSUM = "platformlib.io/config-checksum"
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
FACTORS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
           "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip
SECONDS = {"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


def render(layer: Layer, settings: Settings) -> list[Object]:
    """Every object of a layer: `setup/` first, then its components in order, one file after the other.

    A workload carries the checksum of the ConfigMaps that it mounts, so that a changed configuration rolls its pods.

    Raises:
        PlatformError: a manifest uses a name that does not exist. KubeError: it is not valid YAML.
    """
    components = [component.name for component in layer.wanted(settings)]
    names = ["setup", *components] if components else []
    objects = [obj for name in names for obj in _component(layer, name, settings)]
    return [_with_checksum(obj, objects) for obj in objects]


def _component(layer: Layer, name: str, settings: Settings) -> Iterator[Object]:
    """From the component's folder, and from what is declared about security."""
    if layer.name == "security" and name in GENERATED:
        yield from GENERATED[name](settings)
    for file in _files(manifests().joinpath(layer.name, name)):
        yield from _objects(file, settings)


def share_of(quantity: str, share: float) -> str:
    """A share of a Kubernetes quantity of bytes, as Prometheus writes sizes."""
    number, unit = _split(quantity)
    return f"{int(number * FACTORS[unit] * share)}B"


def scrape_timeout(interval: str) -> str:
    """At most 10 s, and never more than the interval."""
    number, unit = _split(interval)
    return interval if number * SECONDS[unit] < SECONDS["s"] * 10 else "10s"


def _split(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if match is None:
        raise PlatformError(f"{text!r} is not a number with a unit")
    return float(match[1]), match[2]


def _files(folder: Traversable) -> Iterator[Traversable]:
    """The manifests of a folder, which need not exist, by name."""
    if folder.is_dir():
        yield from sorted(
            (each for each in folder.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name
        )


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    # YAML has no markup to escape; what is inserted are validated settings.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.globals.update(image=image, share_of=share_of, scrape_timeout=scrape_timeout)
    environment.globals.update(scrape_profile=lambda settings: SCRAPED_AS_ONE.get(settings.cluster.distribution))
    environment.globals.update(excepted=excepted, bounds_of_sizes=bounds_of_sizes)
    return environment


def _objects(file: Traversable, settings: Settings) -> list[Object]:
    from jinja2 import TemplateError

    try:
        text = _environment().from_string(file.read_text("utf-8")).render(settings=settings)
    except TemplateError as error:
        raise PlatformError(f"{file.name}: {error}") from None
    return parse(text, source=file.name)


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
    return same_namespace and config["metadata"]["name"] in names
