"""scripts/setup, with stand-ins for the programs that change a host."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'
MASK, UNMASK, DISABLE = (f"systemctl {verb} --quiet docker-registry.service" for verb in ("mask", "unmask", "disable"))


class Host:
    """A host on which some packages are absent."""

    def __init__(self, folder: Path, user: int, absent: str) -> None:
        self.folder, self.calls = folder, folder / "calls"
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "setup", folder / "scripts")
        for name in ("requirements.lock", "pyproject.toml"):
            (folder / name).write_text("")
        (folder / ".venv").mkdir()
        sums = "sha256sum requirements.lock pyproject.toml | sha256sum > .venv/lock"
        subprocess.run(["sh", "-c", sums], cwd=folder, check=True)
        self.stand_in("id", f"echo {user}\n")
        self.stand_in("dpkg-query", f'case " {absent} " in *" $3 "*) exit 1 ;; esac\necho installed\n')
        for name in ("systemctl", "apt-get"):
            self.stand_in(name, "")

    def stand_in(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAND_IN + script)
        path.chmod(0o755)

    def setup(self, *suites: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        argv = [str(self.folder / "scripts" / "setup"), *suites]
        environment = {"PATH": path, "CALLS": str(self.calls)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=30)

    def changes(self) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(("systemctl", "apt-get"))]


def test_a_registry_that_is_installed_already_is_left_alone(tmp_path: Path) -> None:
    host = Host(tmp_path, user=0, absent="git gcc")
    assert host.setup().returncode == 0
    assert host.changes() == ["apt-get update -qq", "apt-get install -qqy --no-install-recommends gcc git"]


def test_the_registrys_own_service_neither_starts_nor_stays_masked(tmp_path: Path) -> None:
    host = Host(tmp_path, user=0, absent="docker-registry")
    assert host.setup().returncode == 0
    assert [line for line in host.changes() if line.startswith("systemctl")] == [MASK, UNMASK, DISABLE]
    assert host.changes()[0] == MASK


def test_a_failed_installation_leaves_nothing_masked(tmp_path: Path) -> None:
    host = Host(tmp_path, user=0, absent="docker-registry")
    host.stand_in("apt-get", "exit 1\n")
    assert host.setup().returncode != 0
    assert host.changes()[-1] == UNMASK


@pytest.mark.parametrize(("suites", "status"), [(("unit",), 0), ((), 1), (("unit", "lab"), 1)])
def test_without_root_only_the_unit_tests_go_on_without_a_package(
    tmp_path: Path, suites: tuple[str, ...], status: int
) -> None:
    host = Host(tmp_path, user=1000, absent="mmdebstrap")
    done = host.setup(*suites)
    assert done.returncode == status
    assert "mmdebstrap" in done.stdout + done.stderr
    assert host.changes() == []


def test_with_all_there_nothing_is_done(tmp_path: Path) -> None:
    host = Host(tmp_path, user=0, absent="")
    assert host.setup("unit").returncode == 0
    assert host.changes() == []
