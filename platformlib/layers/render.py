"""A layer's objects, its steps, and what proves it."""

from typing import TYPE_CHECKING

from platformlib import composition
from platformlib.checks import Check
from platformlib.components import rendering
from platformlib.components.proving import Context, pods_run, targets_up
from platformlib.components.rendering import WORKLOADS, Object
from platformlib.kube import reference
from platformlib.layers.model import Layer, layers
from platformlib.layers.model import stages as steps
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.kube import Kube


def render(layer: Layer, settings: Settings) -> list[Object]:
    """Every object of a layer, one component after the other.

    Raises:
        PlatformError: a manifest uses a name that does not exist. KubeError: it is not valid YAML.
    """
    return rendering.render(layer.wanted(settings), settings)


def stages(layer: Layer, settings: Settings, objects: list[Object]) -> list[list[Object]]:
    """A layer's objects in steps: those of one have to be ready before the next is applied."""
    found, left = list[list[Object]](), objects
    for part in steps(layer, settings)[:-1]:
        own = {reference(obj) for obj in rendering.render(part, settings)}
        found.append([obj for obj in left if reference(obj) in own])
        left = [obj for obj in left if reference(obj) not in own]
    return [*found, left]


def proofs(layer: Layer, settings: Settings, kube: "Kube") -> list[Check]:
    """The checks of a layer: its pods run, its targets are scraped, and what each component's `checks.py` asks.

    Metrics are asked for only once they are kept: targets of the layers below are proven with the component that does.
    """
    context, members = Context(settings, kube), layer.components(settings)
    own = {each.name for each in composition.namespaces(settings).values() if not each.exists}
    used = {obj["metadata"]["namespace"] for obj in render(layer, settings) if obj["kind"] in WORKLOADS}
    found = [pods_run(context, namespace) for namespace in sorted(own & used)]
    metrics, order = composition.provider(settings, "metrics"), list(layers())
    if metrics is not None and order.index(metrics.layer) < order.index(layer.name):
        found += targets_up(context, members)
    modules = [module for each in members if (module := each.code("checks")) is not None]
    return found + [check for module in modules for check in module.checks(context)]
