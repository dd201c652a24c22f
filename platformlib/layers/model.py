"""The layers: what each needs, which components it has, and what is in it on one platform."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from platformlib import component, composition
from platformlib.component import Component
from platformlib.errors import PlatformError
from platformlib.settings import Settings


@dataclass(frozen=True)
class Layer:
    """A part of the platform that is installed, proven and removed as one.

    `under` are layers that it does not need, but that have to go after it where they are part of the platform.
    """

    name: str
    purpose: str
    needs: tuple[str, ...]
    under: tuple[str, ...] = ()

    def components(self, settings: Settings) -> list[Component]:
        """All that the platform has in it, brought by the distribution or not."""
        return [each for each in composition.components(settings) if each.layer == self.name]

    def wanted(self, settings: Settings) -> list[Component]:
        """The components that are installed from here."""
        every = composition.installed(settings)
        return [each for each in every if each.layer == self.name and each.renders]


@cache
def layers() -> dict[str, Layer]:
    """Every layer by its name, in the order of installing."""
    return {
        name: Layer(
            name,
            row.purpose,
            tuple(need for need in row.needs if not need.endswith("?")),
            tuple(need.removesuffix("?") for need in row.needs if need.endswith("?")),
        )
        for name, row in component.table().items()
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


def stages(layer: Layer, settings: Settings) -> list[list[Component]]:
    """The components of a layer in the steps of installing it: one waits until what it needs there is ready."""
    left, done = layer.wanted(settings), list[list[Component]]()
    while left:
        waiting = {each.name for each in left}
        step = [each for each in left if not waiting & set(each.needs)]
        if not step:
            raise PlatformError(f"layer {layer.name}: {', '.join(sorted(waiting))} need each other")
        done.append(step)
        left = [each for each in left if each not in step]
    return done
