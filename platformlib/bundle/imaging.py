"""Recipes of images: a foundation, one layer of ours on it, and how a container of it starts."""

import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from platformlib.bundle.image import INDEX, Settings, write_image
from platformlib.bundle.recipe import Recipe, Workspace
from platformlib.bundle.tarlayer import Entry, File, Folder, write_layer
from platformlib.errors import BundleError
from platformlib.versions import image

ACCOUNTS = {"root": 0, "loki": 10001, "nonroot": 65532, "nobody": 65534}
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
More = Callable[[Mapping[str, Path]], Sequence[Entry]]


@dataclass(frozen=True)
class Plan:
    """One image: its name in `versions.yaml`, and the artifact whose `<name>.tar` lies under it, if any."""

    image: str
    settings: Settings
    foundation: str = "etc"


def image_recipe(
    name: str, layer: str, plans: Sequence[Plan], entries: Sequence[Entry], *, more: More | None = None, size: int = 0
) -> Recipe:
    """Images that share one layer of `entries`. A `File` whose content is a path names `<artifact>/<file>`."""
    references = {plan.image: image(plan.image) for plan in plans}
    sources = {
        entry.content.parts[0] for entry in entries if isinstance(entry, File) and isinstance(entry.content, Path)
    }
    foundations = {plan.foundation for plan in plans if plan.foundation}
    return Recipe(
        name, layer, partial(_make, plans=plans, entries=entries, more=more, references=references),
        pins={"plans": [asdict(plan) for plan in plans], "entries": [repr(entry) for entry in entries],
              "references": references},
        inputs=tuple(sorted(sources | foundations)), expected_seconds=2, size=size, peak=0,
    )  # fmt: skip


def _make(
    ws: Workspace, *, plans: Sequence[Plan], entries: Sequence[Entry], more: More | None, references: Mapping[str, str]
) -> None:
    layer = ws.scratch / "layer.tar"
    write_layer(layer, [*(_located(entry, ws.inputs) for entry in entries), *(more(ws.inputs) if more else [])])
    index = []
    for plan in plans:
        under = [ws.inputs[plan.foundation] / f"{plan.foundation}.tar"] if plan.foundation else []
        index.append(write_image(ws.output / "blobs", references[plan.image], [*under, layer], plan.settings))
    (ws.output / INDEX).write_text(json.dumps(index, indent=1), "utf-8")


def _located(entry: Entry, inputs: Mapping[str, Path]) -> Entry:
    if not (isinstance(entry, File) and isinstance(entry.content, Path)):
        return entry
    artifact, *rest = entry.content.parts
    return replace(entry, content=inputs[artifact].joinpath(*rest))


def etc_recipe(layer: str) -> Recipe:
    """What a static program expects of a root file system: accounts, certificates, name lookup order, /tmp."""
    return Recipe("etc", layer, _etc, pins=ACCOUNTS, inputs=("base",), expected_seconds=1, size=1_000_000)


def _etc(ws: Workspace) -> None:
    passwd = "".join(f"{name}:x:{uid}:{uid}:{name}:/:/sbin/nologin\n" for name, uid in ACCOUNTS.items())
    group = "".join(f"{name}:x:{uid}:\n" for name, uid in ACCOUNTS.items())
    write_layer(ws.output / "etc.tar", [
        File("etc/passwd", passwd.encode()), File("etc/group", group.encode()),
        File("etc/nsswitch.conf", b"hosts: files dns\n"), File(CERTIFICATES, _certificates(ws.inputs["base"])),
        Folder("tmp", 0o1777),
    ])  # fmt: skip


def _certificates(base: Path) -> bytes:
    """Debian's own, not this host's, which may have more."""
    with tarfile.open(base / "base.tar") as archive:
        file = archive.extractfile(f"./{CERTIFICATES}")
        if file is None:
            raise BundleError(f"{base / 'base.tar'} has no {CERTIFICATES}")
        return file.read()
