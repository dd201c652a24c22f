"""Is there room? Asked before a build, so that none dies of a full disk an hour later."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from platformlib.bundle.recipe import Recipe
from platformlib.errors import DiskSpaceError

GB = 1_000_000_000
RESERVE = 1 * GB
KEEP_GO_CACHE = "PLATFORMLIB_KEEP_GO_CACHE"


def free(path: Path) -> int:
    """Free bytes of the file system that `path` is, or will be, on."""
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def needed(recipes: Iterable[Recipe]) -> int:
    """Bytes that building `recipes` one after the other takes at its worst moment."""
    todo = list(recipes)
    return sum(recipe.size for recipe in todo) + max((recipe.peak for recipe in todo), default=0) + RESERVE


def require(path: Path, recipes: Iterable[Recipe], measure: Callable[[Path], int] = free) -> None:
    """Raise `DiskSpaceError` unless the file system of `path` has room for `recipes`."""
    want, have = needed(recipes), measure(path)
    if have < want:
        raise DiskSpaceError(
            f"{path}: the bundle needs {want / GB:.1f} GB there, {have / GB:.1f} GB are free",
            fix="make room there, or set PLATFORMLIB_CACHE to a folder on a larger disk",
        )


def drop(folder: Path) -> bool:
    """Remove a cache; True when there was one. Go's own modules are read-only in places, so modes are mended."""
    if not folder.exists():
        return False
    shutil.rmtree(folder, onerror=_unlock)
    return True


def _unlock(function: Callable[[str], object], path: str, _: object) -> None:
    Path(path).parent.chmod(0o700)
    function(path)


def keep_go_cache() -> bool:
    return os.environ.get(KEEP_GO_CACHE, "") not in {"", "0"}
