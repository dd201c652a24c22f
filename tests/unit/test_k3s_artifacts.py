"""Releases: downloaded from a server laid out as upstream's, on loopback, or taken from a bundle folder."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import platformlib as pl
from platformlib.clusters.driver import silent
from platformlib.clusters.k3s import artifacts
from platformlib.errors import BundleError, ChecksumMismatch

VERSION = "v1.35.4+k3s1"
RELEASE = Path("k3s-io/k3s/releases/download") / VERSION  # the server sees `%2B` as `+`


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder; `cut` ends each answer in its middle, as a lost connection does."""

    cut = False
    asked: list[str] = []  # noqa: RUF012 - read by the tests

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not self.cut:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    monkeypatch.setenv("PLATFORMLIB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "www" / RELEASE
    publish(folder)
    handler = partial(Quiet, directory=str(tmp_path / "www"))
    monkeypatch.setattr(Quiet, "cut", False)
    monkeypatch.setattr(Quiet, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/k3s-io/k3s/releases/download"
        server.shutdown()


def publish(folder: Path, *, names: tuple[str, ...] = ("k3s",), arch: str = "amd64") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in names:
        (folder / name).write_bytes(b"\x7fELF " + name.encode())
        lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n")
    (folder / f"sha256sum-{arch}.txt").write_text("".join(lines), "utf-8")


def settings(**k3s: object) -> pl.Settings:
    nodes = [{"name": "k3s-1", "address": "192.168.1.201", "role": "control-plane"}]
    return pl.load({"name": "home", "cluster": {"distribution": "k3s", "nodes": nodes, "k3s": k3s}})


def test_downloaded_once_and_verified(upstream: tuple[Path, str]) -> None:
    _, url = upstream
    release = artifacts.fetch(settings(download=url), VERSION, "x86_64", silent)
    assert release.binary.read_bytes() == b"\x7fELF k3s"
    assert [path.rsplit("/", 1)[0] for path in Quiet.asked] == ["/k3s-io/k3s/releases/download/v1.35.4%2Bk3s1"] * 2
    artifacts.fetch(settings(download=url), VERSION, "x86_64", silent)
    assert len(Quiet.asked) == 2


def test_the_default_is_where_upstream_publishes() -> None:
    base = str(settings().cluster.k3s.download)
    wanted = "https://github.com/k3s-io/k3s/releases/download/v1.35.4%2Bk3s1/sha256sum-arm64.txt"
    assert artifacts.address(base, VERSION, "sha256sum-arm64.txt") == wanted


def test_a_wrong_checksum_is_refused_and_not_kept(upstream: tuple[Path, str]) -> None:
    folder, url = upstream
    (folder / "k3s").write_bytes(b"something else")
    with pytest.raises(ChecksumMismatch, match="k3s has SHA-256"):
        artifacts.fetch(settings(download=url), VERSION, "x86_64", silent)
    publish(folder)
    assert artifacts.fetch(settings(download=url), VERSION, "x86_64", silent).binary.exists()


def test_a_cut_download_leaves_nothing_that_looks_whole(
    upstream: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = upstream
    monkeypatch.setattr(Quiet, "cut", True)
    with pytest.raises(BundleError, match=r"sha256sum-amd64\.txt"):
        artifacts.fetch(settings(download=url), VERSION, "x86_64", silent)
    monkeypatch.setattr(Quiet, "cut", False)
    assert artifacts.fetch(settings(download=url), VERSION, "x86_64", silent).binary.read_bytes() == b"\x7fELF k3s"


def test_an_unpublished_version_says_so(upstream: tuple[Path, str]) -> None:
    with pytest.raises(BundleError, match="404"):
        artifacts.fetch(settings(download=upstream[1]), "v1.99.0+k3s1", "x86_64", silent)


@pytest.mark.parametrize(
    ("machine", "arch", "binary"),
    [("x86_64", "amd64", "k3s"), ("aarch64", "arm64", "k3s-arm64"), ("armv7l", "arm", "k3s-armhf")],
)
def test_from_a_bundle_folder_with_images(tmp_path: Path, machine: str, arch: str, binary: str) -> None:
    images = f"k3s-airgap-images-{arch}.tar.zst"
    publish(tmp_path, names=(binary, images), arch=arch)
    release = artifacts.fetch(settings(bundle=str(tmp_path)), VERSION, machine, silent)
    assert (release.binary.name, release.images and release.images.name) == (binary, images)
    (tmp_path / images).write_bytes(b"tampered")
    with pytest.raises(ChecksumMismatch, match="airgap-images"):
        artifacts.fetch(settings(bundle=str(tmp_path)), VERSION, machine, silent)


def test_a_bundle_with_a_folder_for_each_version(tmp_path: Path) -> None:
    for version in (VERSION, "v1.36.2+k3s1"):
        publish(tmp_path / version)
    release = artifacts.fetch(settings(bundle=str(tmp_path)), "v1.36.2+k3s1", "x86_64", silent)
    assert release.binary.parent.name == "v1.36.2+k3s1"


def test_a_bundle_without_checksums_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k3s").write_bytes(b"x")
    with pytest.raises(BundleError, match="no sha256sum-amd64"):
        artifacts.fetch(settings(bundle=str(tmp_path)), VERSION, "x86_64", silent)
