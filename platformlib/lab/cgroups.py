"""A control group for each machine: its limits, and a border that keeps three kubelets apart.

Without a group of its own in every hierarchy, the machines would share one `/kubepods` and each kubelet would
delete the pods of the others. The group must hold the machine before systemd-nspawn starts, as the machine's
cgroup namespace is rooted where it starts.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from platformlib.errors import LabError
from platformlib.lab.shell import sh

ROOT = Path("/sys/fs/cgroup")
# $1.. are cgroup.procs files up to `--`, then the program.
JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'


def version() -> int:
    """2 where the unified hierarchy is the only one, else 1."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1


def hierarchies() -> list[Path]:
    """The v1 hierarchies that are mounted here, with systemd's own and the unified one beside them."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    return sorted({Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")})


def start_argv(group: str, memory: int, cpus: float, argv: Sequence[str]) -> list[str]:
    """The command line that starts `argv` inside the group; `memory` in bytes."""
    if version() == 1:
        groups = [_prepare(hierarchy / group, memory, cpus) for hierarchy in hierarchies()]
        return ["sh", "-c", JOIN, "sh", *[str(path / "cgroup.procs") for path in groups], "--", *argv]
    limits = ["-p", "Delegate=yes", "-p", f"MemoryMax={memory}", "-p", f"CPUQuota={int(cpus * 100)}%"]
    return ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={group}", *limits, *argv]


def _prepare(path: Path, memory: int, cpus: float) -> Path:
    path.mkdir(exist_ok=True)
    period = 100_000
    wanted = {"memory.limit_in_bytes": memory, "cpu.cfs_period_us": period, "cpu.cfs_quota_us": int(cpus * period)}
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (path / name).exists():
            (path / name).write_text((path.parent / name).read_text())
    if (path / "cgroup.clone_children").exists():
        (path / "cgroup.clone_children").write_text("1")
    for name, value in wanted.items():
        if (path / name).exists():
            (path / name).write_text(str(value))
    return path


def members(group: str) -> set[int]:
    """The processes of a group and of all groups in it."""
    roots = hierarchies() if version() == 1 else list(ROOT.glob(f"**/{group}.scope"))
    files = [file for root in roots for file in _procs(root / group if version() == 1 else root)]
    return {int(line) for file in files for line in _lines(file) if line != "0"}


def others(prefix: str) -> set[str]:
    """The groups of labs whose names do not begin with `prefix`."""
    trees = hierarchies() if version() == 1 else [ROOT / "system.slice"]
    found = {path.name for tree in trees for path in tree.glob("platformlib-*")}
    return {name for name in found if not name.startswith(prefix)}


def _procs(path: Path) -> list[Path]:
    return [Path(folder, "cgroup.procs") for folder, _, _ in os.walk(path)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def kill(group: str, *, deadline: float = 20) -> None:
    """End every process of a group, then remove the group.

    Raises:
        LabError: processes are left after `deadline` seconds, by their ids.
    """
    end = time.monotonic() + deadline
    while left := members(group):
        for process in left:
            _signal(process)
        _thaw(group)
        if time.monotonic() > end:
            raise LabError(f"processes of {group} do not end: {sorted(left)}", fix="look at them with `ps`, try again")
        time.sleep(0.05)
    remove(group)


def _thaw(group: str) -> None:
    """A container that runc had frozen when runc itself was killed would never receive its own signal."""
    for folder, _, files in os.walk(ROOT / "freezer" / group):
        if "freezer.state" in files and folder != str(ROOT / "freezer" / group):
            with suppress(OSError):  # it may be gone by now
                Path(folder, "freezer.state").write_text("THAWED")


def _signal(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove(group: str) -> None:
    """Remove an empty group from every hierarchy, innermost first."""
    if version() == 2:  # noqa: PLR2004 - the version's name
        sh("systemctl", "stop", f"{group}.scope", check=False)
        return
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / group, topdown=False):
            _rmdir(Path(folder))


def _rmdir(path: Path) -> None:
    """A group stays busy for a moment after its last process."""
    for _ in range(100):
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return


def memory(group: str) -> int:
    """Bytes in use by a group, page cache left out where the kernel tells."""
    path = ROOT / "memory" / group / "memory.stat"
    if not path.exists():
        return 0
    stat = dict(line.split() for line in path.read_text("utf-8").splitlines())
    return int(stat.get("total_rss", 0))
