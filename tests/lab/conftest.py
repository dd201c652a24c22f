"""Tests on real machines. They run wherever a lab can: Linux, root, and a built bundle.

They have a lab of their own, with its own name and range, beside whatever lab the user has. It is made once for all
modules of a run, and taken down at its end; KEEP_LAB=1 leaves it up, and goes on with the one that is up.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.lab import Lab, parameters
from platformlib.settings import Settings
from tests.lab.host_state import Snapshot, snapshot
from tests.proof import TEST_LAB

ROOT = Path(__file__).parents[2]
RANGE = IPv4Network("192.168.83.0/24")
KEEP = bool(os.environ.get("KEEP_LAB"))


def _parameters() -> Path:
    """parameters/lab.yaml with another name and range; a file, as commands are given one."""
    document = yaml.safe_load((ROOT / "parameters" / "lab.yaml").read_text("utf-8"))
    own = IPv4Network(document["platform"]["cluster"]["network"]["nodes"])
    moved = parameters.moved(document, own, RANGE)
    moved["platform"]["name"] = TEST_LAB
    path = ROOT / "runs" / f"{TEST_LAB}.yaml"
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(yaml.safe_dump(moved, sort_keys=False), "utf-8")
    new.replace(path)
    return path


PARAMETERS = _parameters()


def why_not() -> str:
    """Why this machine cannot run a lab; nothing where it can."""
    if sys.platform != "linux":
        return "a lab needs Linux"
    if os.geteuid() != 0:
        return "a lab needs root"
    missing = [artifact.name for artifact in Bundle().artifacts() if artifact.state != "ready"]
    return f"not built: {', '.join(missing)} — run `platformlib bundle build`" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    if here and (reason := why_not()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def host_before() -> Snapshot | None:
    """The host without the lab, before anything is made; None where a lab was kept up."""
    lab = Lab(pl.load(PARAMETERS))
    if not KEEP:
        lab.down(print)  # of a run that was killed
    return None if lab.plan.state.exists() else snapshot()


@pytest.fixture(scope="session")
def lab(host_before: Snapshot | None) -> Iterator[Lab]:
    """The lab of PARAMETERS."""
    lab = Lab(pl.load(PARAMETERS))
    lab.up(print)
    yield lab
    if not KEEP:
        lab.down(print)


@pytest.fixture(scope="session")
def settings(lab: Lab) -> Settings:
    """With which everything works on the lab's machines."""
    return lab.settings


def run_install(output: Path) -> subprocess.CompletedProcess[str]:
    """The main job, as the README says it."""
    argv = ["platformlib", "run", "install", "-f", str(PARAMETERS), "--output", str(output)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="session")
def installed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab with the whole platform on it."""
    done = run_install(tmp_path_factory.mktemp("runs") / "install.ipynb")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return lab


@pytest.fixture(scope="session")
def target(installed: Lab) -> "pl.Target":
    bound: pl.Target = pl.bind(str(PARAMETERS))
    return bound
