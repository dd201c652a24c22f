"""The binary and the images of one release: downloaded with their published checksums, or from a bundle folder.

Upstream publishes, for each release, `k3s` (`k3s-arm64`, `k3s-armhf`), `k3s-airgap-images-<arch>.tar.zst` and
`sha256sum-<arch>.txt` below `…/releases/download/<version>/`. A bundle folder has the same files.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from platformlib.clusters.driver import OnEvent
from platformlib.errors import BundleError, ChecksumMismatch
from platformlib.paths import cache_dir
from platformlib.settings import Settings

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
BINARIES = {"amd64": "k3s", "arm64": "k3s-arm64", "arm": "k3s-armhf"}
TIMEOUT = 60.0


@dataclass(frozen=True)
class Release:
    """Files of this host; `images` only from a bundle folder that has them."""

    version: str
    binary: Path
    images: Path | None


def fetch(settings: Settings, version: str, architecture: str, on_event: OnEvent) -> Release:
    """The verified files for machines of one `uname -m`.

    Raises:
        BundleError: a file is missing, or cannot be downloaded. ChecksumMismatch: it is not what was published.
    """
    arch = ARCHITECTURES[architecture]
    if folder := settings.cluster.k3s.bundle:
        return _from_folder(folder, version, arch)
    return _download(str(settings.cluster.k3s.download), version, arch, on_event)


def _from_folder(folder: Path, version: str, arch: str) -> Release:
    """A folder of one release, or one with a folder for each version."""
    own = folder / version
    folder = own if own.is_dir() else folder
    sums, binary = folder / f"sha256sum-{arch}.txt", folder / BINARIES[arch]
    for path in (sums, binary):
        if not path.is_file():
            fix = f"put {path.name} of the release {version} there, as upstream publishes it"
            raise BundleError(f"no {path.name} in {folder}", fix=fix)
    known = published(sums.read_text("utf-8"))
    verify(binary, known)
    images = next((path for path in sorted(folder.glob(f"k3s-airgap-images-{arch}.tar*")) if path.name in known), None)
    if images:
        verify(images, known)
    return Release(version, binary, images)


def _download(base: str, version: str, arch: str, on_event: OnEvent) -> Release:
    """Keep what was verified, by version; a download that was cut off leaves nothing that looks whole."""
    folder = cache_dir() / "k3s" / version / arch
    folder.mkdir(parents=True, exist_ok=True)
    sums, binary = folder / f"sha256sum-{arch}.txt", folder / BINARIES[arch]
    for path in (sums, binary):
        if not path.exists():
            source = address(base, version, path.name)
            on_event(f"downloading {source}")
            _get(source, path)
    try:
        verify(binary, published(sums.read_text("utf-8")))
    except ChecksumMismatch:
        binary.unlink()
        sums.unlink()
        raise
    return Release(version, binary, None)


def address(base: str, version: str, name: str) -> str:
    """Where upstream publishes a file: the `+` of a version is escaped."""
    return f"{base.rstrip('/')}/{quote(version, safe='')}/{name}"


def published(text: str) -> dict[str, str]:
    """File name to SHA-256, of a `sha256sum-<arch>.txt`; names there may have a folder."""
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {Path(name.strip().lstrip("*")).name: digest for digest, name in pairs}


def verify(path: Path, known: dict[str, str]) -> None:
    """Raises ChecksumMismatch unless the file is the published one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = known.get(path.name)
    if found != wanted:
        expected = f"{wanted[:16]}…" if wanted else "nothing of that name"
        fix = "fetch it again; if it differs again, do not use it"
        raise ChecksumMismatch(f"{path} has SHA-256 {found[:16]}…, published is {expected}", fix=fix)


def _get(source: str, target: Path) -> None:
    import httpx

    partial = target.with_name(f".{target.name}.partial")
    try:
        with httpx.stream("GET", source, follow_redirects=True, timeout=TIMEOUT) as answer, partial.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                file.write(chunk)
    except httpx.HTTPError as error:
        partial.unlink(missing_ok=True)
        fix = "is the version published? without a way out, set cluster.k3s.bundle to a folder with its files"
        raise BundleError(f"{source}: {error}", fix=fix) from None
    partial.replace(target)
