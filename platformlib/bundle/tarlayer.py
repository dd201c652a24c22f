"""One layer of an image: a tar whose bytes follow from its contents alone.

Layers stay uncompressed. Registry and nodes share one host or one switch, so that the transfer is cheap, while
unpacking gzip is the slow part of a pull on small machines; and a compressor's next version would change digests.
"""

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# What `setcap cap_net_bind_service=+ep` stores: version 2 with the effective bit, capability number 10.
NET_BIND_SERVICE = b"\x01\x00\x00\x02" + (1 << 10).to_bytes(4, "little") + bytes(12)


@dataclass(frozen=True)
class File:
    """A file: its content, or the path of a host file that has it."""

    path: str
    content: bytes | Path
    mode: int = 0o644
    capability: bytes = b""


@dataclass(frozen=True)
class Folder:
    """A folder; `owner` is user and group id."""

    path: str
    mode: int = 0o755
    owner: int = 0


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


Entry = File | Folder | Link


def program(path: str, source: Path, *, capability: bytes = b"") -> File:
    return File(path, source, 0o755, capability)


def write_layer(out: Path, entries: Iterable[Entry]) -> None:
    """Write `entries` to the tar `out`, parents first, sorted, with one time for all."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        for entry in _with_parents(entries):
            info, content = _describe(entry)
            if isinstance(content, Path):
                with content.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info, io.BytesIO(content))


def _with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    wanted = {entry.path.strip("/"): entry for entry in entries}
    parents = {str(parent) for path in wanted for parent in PurePosixPath(path).parents} - {"."}
    return iter([wanted.get(path) or Folder(path) for path in sorted(parents | wanted.keys())])


def _describe(entry: Entry) -> tuple[tarfile.TarInfo, bytes | Path]:
    info = tarfile.TarInfo(entry.path.strip("/"))
    match entry:
        case Folder(mode=mode, owner=owner):
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
        case Link(target=target):
            info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, target
        case File(content=content, mode=mode, capability=capability):
            info.mode = mode
            info.size = content.stat().st_size if isinstance(content, Path) else len(content)
            if capability:
                info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("ascii")}
            return info, content
    return info, b""
