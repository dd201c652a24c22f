"""The store of Debian's `docker-registry` (distribution 2.8), filled on disk.

Writing its layout, which has not changed since 2.0, needs no running server, and is convergent: whatever state a killed
build left, the next one adds what is missing and removes what nothing refers to. Blobs are hard links to the artifacts.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from platformlib.bundle.image import Built
from platformlib.bundle.store import Damage, sha256
from platformlib.errors import BundleError

BASE = Path("docker/registry/v2")


def config(root: Path, address: str) -> str:
    """The server's configuration: read-only, on `address` (`host:port`), warnings only, nothing reported anywhere."""
    return yaml.safe_dump({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(root)},
            "delete": {"enabled": False},
            "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": True}},
        },
        "http": {"addr": address, "headers": {"X-Content-Type-Options": ["nosniff"]}},
    }, sort_keys=False)  # fmt: skip


def layout(images: Iterable[Built]) -> dict[Path, str | Path]:
    """Path in the store -> text of a link, or the file it is a hard link to. Tags come last."""
    images = list(images)
    _refuse_collisions(images)
    files: dict[Path, str | Path] = {}
    for image in images:
        files |= {BASE / "blobs/sha256" / hex[:2] / hex / "data": image.folder / hex for hex in image.blobs}
        home = BASE / "repositories" / image.reference.repository
        files |= {home / "_layers/sha256" / hex / "link": f"sha256:{hex}" for hex in image.blobs[1:]}
        files[home / "_manifests/revisions/sha256" / image.manifest / "link"] = f"sha256:{image.manifest}"
    for image in images:
        tag = BASE / "repositories" / image.reference.repository / "_manifests/tags" / image.reference.tag
        files[tag / "index/sha256" / image.manifest / "link"] = f"sha256:{image.manifest}"
        files[tag / "current/link"] = f"sha256:{image.manifest}"
    return files


def _refuse_collisions(images: Iterable[Built]) -> None:
    """A mirror is asked for `repository:tag` without the host: two hosts must not mean different images by it."""
    hosts: dict[str, str] = {}
    for image in images:
        name = image.reference.repository
        if hosts.setdefault(name, image.reference.host) != image.reference.host:
            raise BundleError(f"{image.reference} and {hosts[name]}/{name} would be one repository of the registry")


def sync(root: Path, images: Iterable[Built]) -> None:
    """Make the store at `root` serve exactly `images`; safe to interrupt, and under a running server."""
    files = layout(images)
    for path, content in files.items():
        _put(root / path, content)
    for path in _files(root):
        if path.relative_to(root) not in files:
            path.unlink()
    _drop_empty_folders(root)


def _put(path: Path, content: str | Path) -> None:
    if isinstance(content, Path) and path.exists() and path.samefile(content):
        return
    if isinstance(content, str) and path.exists() and path.read_bytes() == content.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    if isinstance(content, Path):
        os.link(content, temporary)
    else:
        temporary.write_text(content, "utf-8")
    temporary.replace(path)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def _drop_empty_folders(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def damage(root: Path, images: Iterable[Built]) -> list[Damage]:
    """What in the store is not as `images` have it."""
    faults = []
    for path, content in layout(images).items():
        place = root / path
        expected = content.name if isinstance(content, Path) else content
        if not place.exists():
            faults.append(Damage(place, expected, "no such file"))
        elif isinstance(content, Path):
            found = sha256(place)
            faults += [Damage(place, expected, found)] if found != expected else []
        elif place.read_bytes() != expected.encode():
            faults.append(Damage(place, expected, "another link"))
    return faults
