"""Upstream's own manifests, from the archive of a pinned Go module, checked by the go.sum that pins it.

Where a bundle was built it has them. Elsewhere the archive is fetched from the Go module proxy once, and kept.
"""

import hashlib
import io
import os
import zipfile
from base64 import b64encode
from functools import partial
from pathlib import Path

from platformlib.bundle.golang import module_proxy, module_source
from platformlib.bundle.recipe import Recipe, Workspace
from platformlib.bundle.store import Store, keys
from platformlib.component import module_lock
from platformlib.errors import BundleError, ChecksumMismatch
from platformlib.paths import cache_dir
from platformlib.versions import versions

FILE = "manifest.yaml"
TIMEOUT = 120.0  # seconds for an archive of some ten megabytes


def manifest_recipe(name: str, layer: str) -> Recipe:
    """The artifact `<name>-manifest`: the one file that `versions.yaml` names under `manifests`."""
    pin, path = versions()["modules"][name], versions()["manifests"][name]
    return Recipe(
        f"{name}-manifest", layer, partial(_make, name=name, module=pin["module"], path=path),
        pins={"pin": pin, "path": path, "sum": checksum(name)}, expected_seconds=5, size=150_000_000,
    )  # fmt: skip


def _make(ws: Workspace, *, name: str, module: str, path: str) -> None:
    (ws.output / FILE).write_bytes((module_source(ws, module, name) / path).read_bytes())


def manifest(name: str) -> str:
    """The text of an upstream manifest.

    Raises:
        ChecksumMismatch: the archive is not the pinned one. BundleError: it is not here and cannot be fetched.
    """
    built = _built(name)
    if built.is_file():
        return built.read_text("utf-8")
    kept = cache_dir() / "manifests" / name / hashlib.sha256(checksum(name).encode()).hexdigest()[:16] / FILE
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(extract(_fetch(name), name))
        fresh.replace(kept)
    return kept.read_text("utf-8")


def _built(name: str) -> Path:
    recipe = manifest_recipe(name, "")
    return Store(cache_dir() / "bundle").path(recipe.name, keys({recipe.name: recipe})[recipe.name]) / FILE


def checksum(name: str) -> str:
    """What go.sum says of the module: `h1:` and a hash over the hashes of its files."""
    pin = versions()["modules"][name]
    lines = (module_lock(name) / "go.sum").read_text("utf-8").splitlines()
    wanted = f"{pin['module']} {pin['version']} "
    return next(line.removeprefix(wanted) for line in lines if line.startswith(wanted))


def _fetch(name: str) -> bytes:
    import httpx

    pin = versions()["modules"][name]
    url = f"{module_proxy().rstrip('/')}/{pin['module']}/@v/{pin['version']}.zip"
    try:
        return httpx.get(url, timeout=TIMEOUT, follow_redirects=True).raise_for_status().content
    except httpx.HTTPError as error:
        fix = "run `platformlib bundle build`, or let this machine reach a Go module proxy (GOPROXY)"
        raise BundleError(f"{url}: {error}", fix=fix) from None


def extract(archive: bytes, name: str) -> bytes:
    """The manifest out of a module's archive, whose every byte is checked first. Raises: ChecksumMismatch."""
    pin, path = versions()["modules"][name], versions()["manifests"][name]
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        if dirhash(files) != checksum(name):
            raise ChecksumMismatch(f"the archive of {pin['module']} {pin['version']} is not the one in go.sum")
        return files.read(f"{pin['module']}@{pin['version']}/{path}")


def dirhash(files: zipfile.ZipFile) -> str:
    """Go's `h1` of an archive (golang.org/x/mod/sumdb/dirhash)."""
    lines = [f"{hashlib.sha256(files.read(name)).hexdigest()}  {name}\n" for name in sorted(files.namelist())]
    return "h1:" + b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()
