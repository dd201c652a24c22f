"""Upstream's manifests: nothing of an archive is used before all of it was checked."""

import io
import zipfile

import pytest

from platformlib.bundle import upstream
from platformlib.errors import ChecksumMismatch
from platformlib.versions import versions


def archive(**files: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    return made.getvalue()


def test_the_hash_is_go_s() -> None:
    """As `golang.org/x/mod/sumdb/dirhash` documents it: the hash of the sorted lines that sha256sum would print."""
    with zipfile.ZipFile(io.BytesIO(archive(b="two\n", a="one\n"))) as file:
        assert upstream.dirhash(file) == "h1:c9kx41MfEyR7vDoBCPzQwO9IAmCl51mA23+m4LxTGsQ="


def test_an_archive_of_other_content_is_refused() -> None:
    pin, path = versions()["modules"]["kyverno"], versions()["manifests"]["kyverno"]
    other = archive(**{f"{pin['module']}@{pin['version']}/{path}": "kind: ConfigMap"})
    with pytest.raises(ChecksumMismatch, match="is not the one in"):
        upstream.extract(other, "kyverno")


def test_every_manifest_belongs_to_a_pinned_module() -> None:
    for name in versions()["manifests"]:
        assert upstream.checksum(name).startswith("h1:")
