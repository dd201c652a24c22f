"""The layers as data: what each needs, and which components it has on which distribution."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import yaml

from platformlib.errors import PlatformError
from platformlib.settings import Settings


@dataclass(frozen=True)
class Component:
    """A folder of manifests. `distributions` is where it is needed; None: everywhere."""

    name: str
    distributions: frozenset[str] | None = None

    def wanted(self, settings: Settings) -> bool:
        """Whether the distribution does not bring it."""
        return self.distributions is None or settings.cluster.distribution in self.distributions


@dataclass(frozen=True)
class Layer:
    """A part of the platform that is installed, proven and removed as one."""

    name: str
    purpose: str
    needs: tuple[str, ...]
    components: tuple[Component, ...]
    under: tuple[str, ...] = ()

    def wanted(self, settings: Settings) -> list[Component]:
        """The components that this platform gets."""
        return [component for component in self.components if component.wanted(settings)]

    def has(self, component: str, settings: Settings) -> bool:
        """Whether this platform gets the component."""
        return component in {each.name for each in self.wanted(settings)}


def manifests() -> Traversable:
    """The folder of the package's manifests."""
    return files("platformlib").joinpath("manifests")


def _component(name: str, options: dict[str, list[str]]) -> Component:
    distributions = options.get("distributions")
    return Component(name, frozenset(distributions) if distributions is not None else None)


@cache
def layers() -> dict[str, Layer]:
    """Every layer by its name, in the order of installing."""
    table = yaml.safe_load(manifests().joinpath("layers.yaml").read_text("utf-8"))
    return {
        name: Layer(
            name,
            row["purpose"],
            tuple(row["needs"]),
            tuple(_component(*item) for item in row["components"].items()),
            tuple(row.get("under", ())),
        )
        for name, row in table.items()
    }


def layer(name: str) -> Layer:
    """One layer. Raises: PlatformError for an unknown name."""
    if name not in layers():
        raise PlatformError(f"there is no layer {name!r}", fix=f"choose one of {', '.join(layers())}")
    return layers()[name]


def chosen(names: Iterable[str], until: str | None = None) -> list[Layer]:
    """The layers `names` in the order of installing, up to and including `until`.

    Raises:
        PlatformError: an unknown layer, one that is not among `names`, or one whose need is not.
    """
    wanted = {layer(name).name for name in names}
    ordered = [each for each in layers().values() if each.name in wanted]
    for each in ordered:
        if missing := [need for need in each.needs if need not in wanted]:
            raise PlatformError(f"layer {each.name} needs {', '.join(missing)}", fix="add it to `platform.layers`")
    if until is None:
        return ordered
    if layer(until) not in ordered:
        raise PlatformError(f"layer {until} is not part of this platform", fix="add it to `platform.layers`")
    return ordered[: ordered.index(layer(until)) + 1]
