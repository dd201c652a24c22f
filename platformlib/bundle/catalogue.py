"""What the bundle consists of: the foundation of all images, and what each component's folder says of its own.

Sizes and seconds are measured ones: two cores, an empty cache.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

from platformlib import component
from platformlib.bundle.debian import base_recipe, busybox_recipe, rootfs_recipe
from platformlib.bundle.golang import go_recipe
from platformlib.bundle.image import Settings
from platformlib.bundle.imaging import Plan, etc_recipe, image_recipe
from platformlib.bundle.pause import pause_recipe
from platformlib.bundle.recipe import Recipe
from platformlib.bundle.tarlayer import NET_BIND_SERVICE, Entry, Folder, Link, program
from platformlib.bundle.upstream import manifest_recipe
from platformlib.component import Component, Image

MB = 1_000_000


def _built(name: str) -> Path:
    return Path(name, "bin", name)


def _foundation(layer: str) -> list[Recipe]:
    """What machines boot, what images stand on, and the two images that belong to no component."""
    pause = Plan("pause", Settings(["/pause"], user="65535:65535"), "")
    busybox = Plan("busybox", Settings(command=["sh"]))
    return [
        rootfs_recipe(layer),
        base_recipe(layer),
        etc_recipe(layer),
        pause_recipe(layer),
        image_recipe("pause-image", layer, [pause], [program("pause", _built("pause"))], size=100 * MB),
        busybox_recipe(layer),
        image_recipe(
            "busybox-image", layer, [busybox], [program("bin/busybox", _built("busybox"))], more=_applets, size=3 * MB
        ),
    ]


def _applets(inputs: Mapping[str, Path]) -> list[Entry]:
    names = (inputs["busybox"] / "applets.txt").read_text("utf-8").split()
    return [Link(f"bin/{name}", "busybox") for name in names if name != "busybox"]


def _component(one: Component) -> Iterator[Recipe]:
    if one.upstream:
        yield manifest_recipe(one.upstream.module, one.layer)
    for name, each in one.build.programs.items():
        yield go_recipe(name, one.layer, each)
    for made, images in groupby(one.build.images.items(), key=lambda item: item[1].program or item[0]):
        yield _images(one, made, dict(images))


def _images(one: Component, made: str, images: Mapping[str, Image]) -> Recipe:
    """The images of one program, over one layer: which of its names it is called by tells them apart."""
    first = next(iter(images.values()))
    links: list[Entry] = [Link(each.link, Path(first.path).name) for each in images.values() if each.link]
    folders = [Folder(each.path, each.mode, each.owner) for each in first.folders]
    capability = NET_BIND_SERVICE if first.bind_low_ports else b""
    entries = [program(first.path, _built(made), capability=capability), *links, *folders]
    plans = [Plan(name, _starts(each), each.foundation) for name, each in images.items()]
    recipe = image_recipe(f"{made}-image{'s' * bool(links)}", one.layer, plans, entries, size=first.size * MB)
    return replace(recipe, optional=one.build.programs[made].optional)


def _starts(one: Image) -> Settings:
    entrypoint = [f"/{one.link or one.path}"] if one.entrypoint is None else one.entrypoint
    return Settings(entrypoint, one.command, one.user, one.workdir)


@cache
def catalogue() -> tuple[Recipe, ...]:
    """Every recipe, in build order."""
    first = next(iter(component.table()))
    return (*_foundation(first), *(made for one in component.packaged().values() for made in _component(one)))
