"""The bundle, as the rest of the package sees it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from platformlib.bundle import disk, registry
from platformlib.bundle.build import Builder
from platformlib.bundle.catalogue import catalogue
from platformlib.bundle.image import Built, read_images
from platformlib.bundle.lock import exclusive
from platformlib.bundle.recipe import Event, OnEvent, Recipe, upto
from platformlib.bundle.store import Damage, Store, keys
from platformlib.errors import BundleError, ChecksumMismatch
from platformlib.paths import cache_dir
from platformlib.settings import LAYERS

if TYPE_CHECKING:
    import pandas as pd

BUILD = "run `platformlib bundle build`"


def _silent(_: Event) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Artifact:
    """One artifact: `state` is ready, or missing (never built, incomplete, or of other pins). `seconds` it took."""

    name: str
    layer: str
    key: str
    path: Path
    state: Literal["ready", "missing"]
    expected_seconds: float
    size: int
    seconds: float


class Bundle:
    """Binaries, root file systems and images, built from pins into a cache outside the work tree."""

    def __init__(self, cache: Path | None = None, recipes: Sequence[Recipe] | None = None) -> None:
        self.cache = cache or cache_dir() / "bundle"
        self._recipes = tuple(catalogue() if recipes is None else recipes)
        self._keys = keys({recipe.name: recipe for recipe in self._recipes})
        self._store = Store(self.cache)

    def __repr__(self) -> str:
        ready = sum(artifact.state == "ready" for artifact in self.artifacts())
        return f"Bundle({str(self.cache)!r}, {ready} of {len(self._recipes)} artifacts ready)"

    def artifacts(self, until: str | None = None, *, extra: Collection[str] = ()) -> list[Artifact]:
        """All artifacts up to the layer `until`, in build order; of optional ones, those in `extra`.

        Reads no more than their records.
        """
        return [self._artifact(recipe) for recipe in upto(self._recipes, LAYERS, until, extra)]

    def build(self, until: str | None = None, on_event: OnEvent = _silent, *, extra: Collection[str] = ()) -> None:
        """Build what is missing or damaged, then fill the registry. Safe to interrupt; a second build waits.

        Args:
            extra: optional programs to build as well, with their images.

        Raises `BundleError` (naming artifact, log and fix) or `DiskSpaceError`; finished artifacts are kept.
        """
        optional = {recipe.name for recipe in self._recipes if recipe.optional}
        if wrong := sorted(set(extra) - optional):
            raise BundleError(f"nothing optional: {', '.join(wrong)}", fix=f"one of {', '.join(sorted(optional))}")
        recipes, go_caches = upto(self._recipes, LAYERS, until, extra), self.cache.parent / "go"
        builder = Builder(self._store, self._keys, go_caches, on_event)
        with exclusive(self.cache / ".lock", on_event):
            builder.build(recipes)
            registry.sync(self.registry, self._images())
            builder.remove_stale({recipe.name for recipe in recipes} | optional, unknown=until is None)
            if until in {None, LAYERS[-1]} and not disk.keep_go_cache() and disk.drop(go_caches):
                on_event(Event("cleared", message="Go's caches, the bundle being whole"))

    def table(self, until: str | None = None) -> "pd.DataFrame":
        """One row an artifact: name, layer, state, size (bytes), seconds (to build it), key."""
        import pandas as pd

        columns = ["name", "layer", "state", "size", "seconds", "key"]
        rows = [[getattr(artifact, column) for column in columns] for artifact in self.artifacts(until)]
        return pd.DataFrame(rows, columns=columns).assign(key=lambda table: table["key"].str[:12])

    def verify(self, until: str | None = None) -> "pd.DataFrame":
        """Read every file of every artifact and of the registry: name, layer, files, ok.

        Raises `ChecksumMismatch` with each file that differs, `BundleError` when something was not built yet.
        """
        import pandas as pd

        artifacts = self.artifacts(until)
        if missing := [artifact.name for artifact in artifacts if artifact.state == "missing"]:
            raise BundleError(f"not built: {', '.join(missing)}", fix=BUILD)
        _raise([fault for artifact in artifacts for fault in self._store.damage(artifact.path)])
        images = [image for artifact in artifacts for image in read_images(artifact.path)]
        _raise(registry.damage(self.registry, images))
        rows = [[item.name, item.layer, len(self._files(item.path)), True] for item in artifacts]
        rows.append(["registry", "", len(registry.layout(images)), True])
        return pd.DataFrame(rows, columns=["name", "layer", "files", "ok"])

    def binary(self, name: str) -> Path:
        """The program of an artifact. `kubernetes` is called by the name of the program that is wanted (argv[0])."""
        return self._path(name) / "bin" / name

    @property
    def rootfs(self) -> Path:
        """Tar of the root file system of the lab's machines."""
        return self._path("rootfs") / "rootfs.tar"

    @property
    def registry(self) -> Path:
        """Root folder of the store that `docker-registry` serves; every image under its upstream repository."""
        return self.cache / "registry"

    def registry_config(self, address: str) -> str:
        """Configuration (YAML) with which `docker-registry serve` serves the store, read-only, on `address`."""
        return registry.config(self.registry, address)

    def images(self) -> list[str]:
        """References of all images that the registry has."""
        return [str(image.reference) for image in self._images()]

    def _images(self) -> list[Built]:
        every = (self._artifact(recipe) for recipe in self._recipes)
        ready = (artifact for artifact in every if artifact.state == "ready")
        return [image for artifact in ready for image in read_images(artifact.path)]

    def _artifact(self, recipe: Recipe) -> Artifact:
        key = self._keys[recipe.name]
        path = self._store.path(recipe.name, key)
        record = self._store.present(path)
        size = sum(entry["size"] for entry in self._files(path).values())
        return Artifact(
            recipe.name, recipe.layer, key, path, "ready" if record else "missing",
            recipe.expected_seconds, size, float(record["seconds"]) if record else 0.0,
        )  # fmt: skip

    def _files(self, path: Path) -> dict[str, dict[str, int]]:
        return dict((self._store.manifest(path) or {}).get("files", {}))

    def _path(self, name: str) -> Path:
        if name not in self._keys:
            raise BundleError(f"the bundle has no artifact {name!r}", fix=f"one of {', '.join(self._keys)}")
        path = self._store.path(name, self._keys[name])
        if self._store.present(path) is None:
            raise BundleError(f"the bundle has no {name} yet", fix=BUILD)
        return path


def _raise(found: list[Damage]) -> None:
    if found:
        lines = "\n  ".join(map(str, found))
        raise ChecksumMismatch(f"{len(found)} files of the bundle are not what was built\n  {lines}", fix=BUILD)
