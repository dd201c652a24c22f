"""Tests on real machines. They run wherever a lab can: Linux, root, and a built bundle."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.lab import Lab
from platformlib.settings import Settings

ROOT = Path(__file__).parents[2]
PARAMETERS = ROOT / "parameters" / "lab.yaml"


def why_not() -> str:
    """Why this machine cannot run a lab; nothing where it can."""
    if sys.platform != "linux":
        return "a lab needs Linux"
    if os.geteuid() != 0:
        return "a lab needs root"
    missing = [artifact.name for artifact in Bundle().artifacts() if artifact.state != "ready"]
    return f"not built: {', '.join(missing)} — run `platformlib bundle build`" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: Path(item.fspath).name == "test_kill.py")  # it builds the lab anew, so it comes last
    here = [item for item in items if Path(item.fspath).parent == Path(__file__).parent]
    if here and (reason := why_not()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def settings() -> Settings:
    return pl.load(PARAMETERS)


@pytest.fixture(scope="session")
def lab(settings: Settings) -> Iterator[Lab]:
    """The lab of parameters/lab.yaml; one that was up before the tests is left up."""
    lab = Lab(settings)
    was_up = (lab.status()["state"] == "running").all()
    lab.up(print)
    yield lab
    if not was_up:
        lab.down(print)


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
