"""Container images without a container engine: layers, a configuration and a manifest, each named by its digest."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformlib.bundle.store import sha256

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
INDEX = "images.json"


def architecture() -> str:
    """This machine's, as Go and OCI call it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Reference:
    """`host/repository:tag`, as manifests carry it."""

    host: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        host, _, rest = text.partition("/")
        repository, _, tag = rest.rpartition(":")
        return cls(host, repository, tag)

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Settings:
    """How a container of the image starts. `user` is numeric: `runAsNonRoot` cannot judge a name."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    user: str = ""
    workdir: str = "/"

    def config(self) -> dict[str, Any]:
        parts = {"Entrypoint": list(self.entrypoint), "Cmd": list(self.command), "User": self.user}
        return {key: value for key, value in parts.items() if value} | {"Env": [PATH], "WorkingDir": self.workdir}


@dataclass(frozen=True)
class Built:
    """A finished image: its blobs lie in `folder`, each under the hexadecimal digest."""

    reference: Reference
    folder: Path
    manifest: str
    blobs: tuple[str, ...]


def add_blob(folder: Path, source: Path) -> dict[str, Any]:
    """Put the layer `source` among the blobs, as a hard link, and describe it."""
    digest = sha256(source)
    if not (folder / digest).exists():
        os.link(source, folder / digest)
    return {"mediaType": LAYER_TYPE, "digest": f"sha256:{digest}", "size": source.stat().st_size}


def add_document(folder: Path, media_type: str, document: Mapping[str, Any]) -> dict[str, Any]:
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def write_image(folder: Path, reference: str, layers: Sequence[Path], settings: Settings) -> dict[str, Any]:
    """Write the blobs of one image into `folder`; returns its entry for the index."""
    folder.mkdir(exist_ok=True)
    layer_blobs = [add_blob(folder, layer) for layer in layers]
    config = add_document(folder, CONFIG_TYPE, {
        "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z", "config": settings.config(),
        "rootfs": {"type": "layers", "diff_ids": [blob["digest"] for blob in layer_blobs]},
    })  # fmt: skip
    manifest = add_document(folder, MANIFEST_TYPE, {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layer_blobs,
    })  # fmt: skip
    digests = [blob["digest"].removeprefix("sha256:") for blob in (manifest, config, *layer_blobs)]
    return {"reference": reference, "manifest": digests[0], "blobs": digests}


def read_images(artifact: Path) -> list[Built]:
    """The images that an artifact holds; none when it is not an artifact of images."""
    if not (artifact / INDEX).exists():
        return []
    entries = json.loads((artifact / INDEX).read_text("utf-8"))
    return [
        Built(Reference.parse(entry["reference"]), artifact / "blobs", entry["manifest"], tuple(entry["blobs"]))
        for entry in entries
    ]
