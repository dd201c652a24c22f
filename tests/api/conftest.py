"""A real API server with etcd and the controllers, and no node: three processes on loopback, one for the test run."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from platformlib.errors import KubeError, PlatformError
from platformlib.kube import Kube
from platformlib.kube.credentials import Credentials
from platformlib.kube.session import Session
from tests.api.control_plane import ControlPlane, free_port, poll


def _binary(name: str) -> Path:
    """From the folder that PLATFORMLIB_TEST_BINARIES names, or from the bundle."""
    if folder := os.environ.get("PLATFORMLIB_TEST_BINARIES"):
        return Path(folder) / {"kubernetes": "kube"}.get(name, name)
    from platformlib.bundle import Bundle

    return Path(Bundle().binary(name))


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs under their own names; kubernetes' is one binary that looks at argv[0]."""
    folder = tmp_path_factory.mktemp("bin")
    try:
        kubernetes, etcd = _binary("kubernetes"), _binary("etcd")
    except (PlatformError, ImportError, AttributeError) as error:
        pytest.skip(f"no API server to test against: {error}")
    if not (kubernetes.exists() and etcd.exists()):
        pytest.skip(f"no API server to test against: {kubernetes} or {etcd} is not built")
    for name in ("kube-apiserver", "kube-controller-manager"):
        (folder / name).symlink_to(kubernetes)
    (folder / "etcd").symlink_to(etcd)
    return folder


@contextmanager
def _running(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(argv, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def control_plane(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Running until the end of the tests; its data is removed with them."""
    folder = tmp_path_factory.mktemp("control-plane")
    plane = ControlPlane(folder, free_port(), free_port(), free_port())
    plane.write_credentials()
    with ExitStack() as stack:
        for name, arguments in plane.programs().items():
            argv = [str(binaries / name), *arguments]
            process = stack.enter_context(_running(argv, folder / f"{name}.log"))
            if name == "kube-apiserver":
                poll(partial(_ready, plane, process), timeout=60, what=folder / f"{name}.log")
        yield plane
    shutil.rmtree(folder)


def _ready(plane: ControlPlane, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, f"kube-apiserver ended: {(plane.folder / 'kube-apiserver.log').read_text()[-2000:]}"
    try:
        return (
            Kube(Session(Credentials.load(plane.kubeconfig), retry_timeout=1)).get("v1", "Namespace", "kube-system")
            is not None
        )
    except KubeError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this machine remembers of a platform is the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLATFORMLIB_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def kube(control_plane: ControlPlane) -> Kube:
    """A connection as the cluster's administrator."""
    return Kube.connect(control_plane.kubeconfig)


@pytest.fixture
def layer(kube: Kube) -> Iterator[str]:
    """The name of a layer, and of a namespace, that is this test's alone; its objects go with the control plane.

    But for aggregated APIs: one that does not answer keeps every namespace from being deleted.
    """
    name = f"test-{uuid4().hex[:8]}"
    yield name
    for ref in kube.inventory(name):
        if ref.kind == "APIService":
            kube.delete(ref)


@pytest.fixture
def edit(control_plane: ControlPlane) -> Callable[..., None]:
    """Change an object by another field manager, as a person with kubectl does."""
    return control_plane.edit
