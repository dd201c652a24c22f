"""Images: their bytes follow from their contents, they start as upstream's do, and a real registry serves them."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from platformlib.bundle import Bundle
from platformlib.bundle.build import Builder
from platformlib.bundle.catalogue import catalogue
from platformlib.bundle.image import Built, Reference, read_images
from platformlib.bundle.registry import layout, sync
from platformlib.bundle.store import Store, keys
from platformlib.bundle.tarlayer import Entry, File, Folder, Link, write_layer
from platformlib.errors import BundleError
from platformlib.versions import versions
from tests.unit.bundle_toys import etc, image_of, toy

PROGRAM = b"#!program"
paths = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
entries = st.one_of(
    st.builds(File, paths, st.binary(max_size=20), st.sampled_from([0o644, 0o755])),
    st.builds(Folder, paths, st.sampled_from([0o755, 0o1777]), st.sampled_from([0, 10001])),
    st.builds(Link, paths, st.just("busybox")),
)


@settings(deadline=None)
@given(contents=st.lists(entries, unique_by=lambda entry: entry.path), data=st.data())
def test_order_of_entries_does_not_change_a_layer(
    tmp_path_factory: pytest.TempPathFactory, contents: list[Entry], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("layer")
    write_layer(folder / "one.tar", contents)
    write_layer(folder / "two.tar", data.draw(st.permutations(contents)))
    assert (folder / "one.tar").read_bytes() == (folder / "two.tar").read_bytes()
    with tarfile.open(folder / "one.tar") as archive:
        assert sorted(member.name for member in archive) == sorted(entry.path for entry in contents)


def test_layer_forgets_when_and_by_whom_it_was_made(tmp_path: Path) -> None:
    source = tmp_path / "program"
    layers = []
    for moment, mode in [(1, 0o600), (10**9, 0o777)]:
        source.write_bytes(PROGRAM)
        source.chmod(mode)
        os.utime(source, (moment, moment))
        write_layer(tmp_path / "layer.tar", [File("usr/bin/program", source, 0o755)])
        layers.append((tmp_path / "layer.tar").read_bytes())
    assert layers[0] == layers[1]


def test_layer_holds_owner_mode_link_capability_and_parents(tmp_path: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04" + bytes(14)
    write_layer(tmp_path / "layer.tar", [
        File("a/b/program", PROGRAM, 0o755, capability), Folder("data", 0o775, 65534), Link("a/b/sh", "program"),
    ])  # fmt: skip
    with tarfile.open(tmp_path / "layer.tar") as archive:
        found = {member.name: member for member in archive}
        assert list(found) == ["a", "a/b", "a/b/program", "a/b/sh", "data"]
        assert (found["data"].uid, found["data"].gid, found["data"].mode) == (65534, 65534, 0o775)
        assert found["a"].isdir()
        assert (found["a/b/sh"].linkname, found["a/b/program"].mode) == ("program", 0o755)
        assert found["a/b/program"].pax_headers["SCHILY.xattr.security.capability"].encode() == capability


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("getcap"), reason="needs root and getcap (libcap2-bin)")
def test_capability_is_what_setcap_stores(tmp_path: Path) -> None:
    from platformlib.bundle.tarlayer import NET_BIND_SERVICE

    program = tmp_path / "program"
    program.write_bytes(PROGRAM)
    os.setxattr(program, "security.capability", NET_BIND_SERVICE)
    shown = subprocess.run(["getcap", program], check=True, capture_output=True, text=True).stdout
    assert "cap_net_bind_service=ep" in shown


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every image of the catalogue, over stand-ins of the programs and foundations."""
    cache = tmp_path_factory.mktemp("images") / "bundle"
    recipes = {recipe.name: recipe for recipe in catalogue()}
    builder = Builder(Store(cache), keys(recipes), cache.parent / "go", lambda _: None)
    made = [recipe for recipe in recipes.values() if recipe.name.endswith(("-image", "-images"))]
    for needed in {name for recipe in made for name in recipe.inputs}:
        _stand_in(builder.path(needed), needed)
    builder.build(made)
    return {str(image.reference): image for recipe in made for image in read_images(builder.path(recipe.name))}


def _stand_in(folder: Path, name: str) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / name).write_bytes(PROGRAM)
    (folder / "applets.txt").write_text("[\nsh\nmkdir\nrm\nbusybox\n")
    accounts: list[Entry] = [File("etc/passwd", b"x"), Folder("tmp", 0o1777), Link("bin", "usr/bin")]
    write_layer(folder / f"{name}.tar", accounts[: 3 if name == "base" else 2])


def document(image: Built, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((image.folder / digest.removeprefix("sha256:")).read_bytes())
    return found


def config(image: Built) -> dict[str, Any]:
    found: dict[str, Any] = document(image, document(image, image.manifest)["config"]["digest"])["config"]
    return found


def members(image: Built) -> dict[str, tarfile.TarInfo]:
    """The root file system of an image, layer upon layer."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in document(image, image.manifest)["layers"]:
        with tarfile.open(image.folder / layer["digest"].removeprefix("sha256:")) as archive:
            found |= {member.name.removeprefix("./"): member for member in archive}
    return found


def test_every_pinned_image_is_built(images: dict[str, Built]) -> None:
    assert set(images) == set(versions()["images"].values())


def test_every_entrypoint_is_a_program_in_its_image(images: dict[str, Built]) -> None:
    for reference, image in images.items():
        how, files = config(image), members(image)
        word = (how.get("Entrypoint") or how["Cmd"])[0]
        folders = [part.strip("/") for part in how["Env"][0].removeprefix("PATH=").split(":")]
        places = [word.strip("/")] if word.startswith("/") else [f"{folder}/{word}" for folder in folders]
        found = next((files[place] for place in places if place in files), None)
        assert found is not None, f"{reference}: {word} is not there"
        target = found if not found.issym() else files[str(Path(found.name).parent / found.linkname)]
        assert (target.isfile(), target.mode, target.size) == (True, 0o755, len(PROGRAM)), reference


# Who upstream's images run as: their Dockerfiles, at the pinned versions.
USERS = {
    "pause": "65535:65535", "coredns": "65532:65532", "metrics-server": "65534:65534", "loki": "10001:10001",
    "kube-state-metrics": "65534:65534", "node-exporter": "65534:65534", "prometheus": "65534:65534",
    "kube-apiserver": "", "kube-proxy": "", "kube-router": "", "etcd": "", "promtail": "", "busybox": "",
}  # fmt: skip


@pytest.mark.parametrize(("name", "user"), USERS.items())
def test_images_run_as_upstream_ones_do(images: dict[str, Built], name: str, user: str) -> None:
    assert config(images[versions()["images"][name]]).get("User", "") == user


def test_kubernetes_is_one_blob_for_four_images(images: dict[str, Built]) -> None:
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    four = [images[versions()["images"][name]] for name in names]
    assert len({document(image, image.manifest)["layers"][-1]["digest"] for image in four}) == 1
    proxy, router = images[versions()["images"]["kube-proxy"]], images[versions()["images"]["kube-router"]]
    foundations = {document(image, image.manifest)["layers"][0]["digest"] for image in (proxy, router)}
    assert len(foundations) == 1


def test_shell_image_has_its_tools(images: dict[str, Built]) -> None:
    files = members(images[versions()["images"]["busybox"]])
    assert {files[f"bin/{tool}"].linkname for tool in ("sh", "mkdir", "rm", "[")} == {"busybox"}


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("registry.k8s.io/coredns/coredns:v1.13.1", "registry.k8s.io", "coredns/coredns", "v1.13.1"),
        ("docker.io/library/busybox:1.37", "docker.io", "library/busybox", "1.37"),
        ("localhost:5000/a:b", "localhost:5000", "a", "b"),
    ],
)
def test_reference_is_taken_apart(text: str, host: str, repository: str, tag: str) -> None:
    assert Reference.parse(text) == Reference(host, repository, tag)
    assert str(Reference.parse(text)) == text


def test_one_repository_of_two_hosts_is_refused(tmp_path: Path) -> None:
    two = [Built(Reference.parse(text), tmp_path, "0" * 64, ("0" * 64,)) for text in ("quay.io/a/b:1", "ghcr.io/a/b:2")]
    with pytest.raises(BundleError, match=r"ghcr.io/a/b:2 and quay.io/a/b"):
        layout(two)


def stored(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_store_converges_from_any_state_to_exactly_the_images(
    images: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    fresh, root = tmp_path_factory.mktemp("fresh"), tmp_path_factory.mktemp("root")
    some, others = (
        [images[name] for name in data.draw(st.sets(st.sampled_from(sorted(images)), max_size=4))] for _ in "12"
    )
    sync(fresh, some)
    sync(root, others)
    leftovers = sorted(path for path in root.rglob("*") if path.is_file())
    for path in data.draw(st.sets(st.sampled_from(leftovers))) if leftovers else ():
        path.unlink()
    sync(root, some)
    assert stored(root) == stored(fresh)
    assert not [path for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_changed_image_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    def bundle(text: str) -> Bundle:
        made = Bundle(tmp_path / "bundle", [etc(), toy("one", text), image_of("one", "pause")])
        made.build()
        return made

    bundle("v1")
    changed = stored(bundle("v2").registry)
    again = Bundle(tmp_path / "other", [etc(), toy("one", "v2"), image_of("one", "pause")])
    again.build()
    assert changed == stored(again.registry)
    assert again.images() == [versions()["images"]["pause"]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Bundle]]:
    """A bundle of one image, and the address at which the real registry serves it."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    bundle = Bundle(tmp_path / "bundle", [etc(), toy("one"), image_of("one", "coredns")])
    bundle.build()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "config.yml").write_text(bundle.registry_config(address))
    server = subprocess.Popen(["docker-registry", "serve", tmp_path / "config.yml"], stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(address)
        yield f"http://{address}/v2", bundle
    finally:
        server.terminate()
        server.wait()


def _wait_until_it_answers(address: str, seconds: float = 15) -> None:
    host, _, port = address.partition(":")
    end = time.monotonic() + seconds
    with socket.socket() as probe:
        while probe.connect_ex((host, int(port))):
            assert time.monotonic() < end, "docker-registry does not answer"
            time.sleep(0.05)


def test_real_registry_serves_the_image_and_takes_nothing(served: tuple[str, Bundle]) -> None:
    url, bundle = served
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    with httpx.Client() as client:
        answer = client.get(f"{url}/coredns/coredns/manifests/v1.13.1?ns=registry.k8s.io", headers=accept)
        digest = answer.headers["Docker-Content-Digest"]
        assert answer.status_code == 200
        assert digest == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        assert client.head(f"{url}/coredns/coredns/manifests/{digest}", headers=accept).status_code == 200
        for blob in (answer.json()["config"], *answer.json()["layers"]):
            content = client.get(f"{url}/coredns/coredns/blobs/{blob['digest']}").content
            assert (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") == (blob["size"], blob["digest"])
        assert client.get(f"{url}/coredns/coredns/tags/list").json()["tags"] == ["v1.13.1"]
        assert client.get(f"{url}/pause/manifests/3.10.1", headers=accept).status_code == 404
        assert client.post(f"{url}/coredns/coredns/blobs/uploads/").status_code == 405
    assert bundle.verify()["ok"].all()


def test_registry_configuration_is_read_only_and_quiet(tmp_path: Path) -> None:
    settings = yaml.safe_load(Bundle(tmp_path, []).registry_config("192.168.1.1:5000"))
    assert settings["http"]["addr"] == "192.168.1.1:5000"
    assert settings["storage"]["maintenance"]["readonly"] == {"enabled": True}
    assert settings["storage"]["filesystem"]["rootdirectory"] == str(tmp_path / "registry")
    assert settings["log"]["level"] == "warn"
    assert not {"reporting", "notifications", "proxy"} & set(settings)
