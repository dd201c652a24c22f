"""Finished artifacts on disk: a folder each, named by its key, with the checksum of every file."""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformlib.bundle.recipe import Recipe

MANIFEST = "manifest.json"
_FOLDER = re.compile(r"^(?P<name>.+)-[0-9a-f]{12}$")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keys(recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """The key of each recipe: a checksum of all that its result follows from."""
    found: dict[str, str] = {}

    def key(name: str) -> str:
        if name not in found:
            recipe = recipes[name]
            inputs = {item: key(item) for item in recipe.inputs}
            parts = [name, platform.machine(), recipe.version, recipe.pins, inputs]
            found[name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return found[name]

    return {name: key(name) for name in recipes}


@dataclass(frozen=True, order=True)
class Damage:
    """A file that is not what was built."""

    file: Path
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected sha256 {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Store:
    """The folder of all artifacts."""

    root: Path

    def path(self, name: str, key: str) -> Path:
        return self.root / f"{name}-{key[:12]}"

    def manifest(self, folder: Path) -> dict[str, Any] | None:
        """What was recorded when `folder` was finished; None without a readable record."""
        try:
            record = json.loads((folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else None

    def present(self, folder: Path) -> dict[str, Any] | None:
        """The record of a finished artifact whose files are all there, in their sizes; else None. Reads no content."""
        record = self.manifest(folder)
        if record is None:
            return None
        sizes = {name: path.stat().st_size for name, path in _files(folder)}
        return record if sizes == {name: entry["size"] for name, entry in record["files"].items()} else None

    def damage(self, folder: Path) -> list[Damage]:
        """Every file of a finished artifact whose bytes are not those that were recorded; reads all of them."""
        record = self.manifest(folder)
        if record is None:
            return [Damage(folder / MANIFEST, "of a readable record", "none")]
        found = {name: sha256(path) for name, path in _files(folder)}
        expected = {name: entry["sha256"] for name, entry in record["files"].items()}
        return [
            Damage(folder / name, expected.get(name, "of no such file"), found.get(name, "no such file"))
            for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
        ]

    def adopt(self, output: Path, folder: Path, about: Mapping[str, Any]) -> None:
        """Turn a finished `output` into the artifact at `folder`, in one step: whole, or not there."""
        files = {name: {"sha256": sha256(path), "size": path.stat().st_size} for name, path in _files(output)}
        (output / MANIFEST).write_text(json.dumps({**about, "files": files}, indent=1, sort_keys=True), "utf-8")
        for path in (*(path for _, path in _files(output)), output / MANIFEST):
            _settle(path)
        if folder.exists():  # damaged, or it would have been reused
            shutil.rmtree(folder)
        output.rename(folder)

    def folders(self) -> list[tuple[str, Path]]:
        """Name and folder of every artifact here, whatever its key."""
        return [(match["name"], path) for path in self._entries() if (match := _FOLDER.match(path.name))]

    def _entries(self) -> list[Path]:
        return sorted(path for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            yield str(path.relative_to(folder)), path


def _settle(path: Path) -> None:
    """Bytes first, name second: a power cut must not leave a finished artifact with empty files."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
