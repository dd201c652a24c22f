"""A control group for each machine: its limits, and a border that keeps three kubelets apart.

Without a group of its own in every hierarchy, the machines would share one `/kubepods`, and each kubelet would delete
the pods of the others. The group must hold the machine before systemd-nspawn starts, as the machine's cgroup namespace
is rooted where it starts.

There are two groups, one in the other. The outer one has the limits, out of the machine's reach. The inner one is the
root that the machine sees; it repeats the memory limit, as that is where kubelet and preflight read it.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from platformlib.errors import LabError
from platformlib.lab.shell import sh

ROOT = Path("/sys/fs/cgroup")
PREFIX = "platformlib-"
INNER = "machine"
PERIOD = 100_000  # microseconds, cgroup v1's usual period
# $1.. are cgroup.procs files up to `--`, then the program.
JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'
# Not to be opened on a machine: any block device, and the host's memory and ports. `mknod` itself stays allowed.
DENIED = ("b *:* rw", "c 1:1 rw", "c 1:2 rw", "c 1:4 rw")
# The same on v2, where systemd has a list of what is allowed.
ALLOWED = ("char-pts rw", "/dev/kmsg rw", "/dev/fuse rw", "/dev/net/tun rw")


UNITS = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30, "T": 10**12, "Ti": 2**40}


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as `4Gi`."""
    number = text.rstrip("kKMGTi")
    return int(float(number) * UNITS[text[len(number) :]])


def version() -> int:
    """2 where the unified hierarchy is the only one, else 1."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1


def _unified() -> bool:
    return version() == 2  # noqa: PLR2004 - the version's name


def hierarchies() -> list[Path]:
    """The v1 hierarchies that are mounted here, with systemd's own and the unified one beside them."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    return sorted({Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")})


def start_argv(group: str, memory: int, cpus: float, argv: Sequence[str]) -> list[str]:
    """The command line that starts `argv` inside the group; `memory` in bytes."""
    if _unified():
        return scope_argv(group, memory, cpus, argv)
    groups = [prepare(hierarchy / group, memory, cpus) for hierarchy in hierarchies()]
    return ["sh", "-c", JOIN, "sh", *[str(path / "cgroup.procs") for path in groups], "--", *argv]


def scope_argv(group: str, memory: int, cpus: float, argv: Sequence[str]) -> list[str]:
    """The same on cgroup v2: a scope of the host's systemd, which delegates it."""
    limits = ["Delegate=yes", f"MemoryMax={memory}", f"CPUQuota={round(cpus * 100)}%", "DevicePolicy=closed"]
    properties = [word for value in [*limits, *(f"DeviceAllow={it}" for it in ALLOWED)] for word in ("-p", value)]
    return ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={group}", *properties, "--", *argv]


def prepare(outer: Path, memory: int, cpus: float) -> Path:
    """Make a machine's groups in one v1 hierarchy; the inner one."""
    inner = outer / INNER
    for path in (outer, inner):
        path.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (path / name).exists():
                (path / name).write_text((path.parent / name).read_text())
        wanted = {
            "cgroup.clone_children": "1",
            "memory.use_hierarchy": "1",
            "memory.limit_in_bytes": str(memory),
            "cpu.cfs_period_us": str(PERIOD),
            "cpu.cfs_quota_us": str(round(cpus * PERIOD)),
        }
        for name, value in wanted.items():
            if (path / name).exists() and (path / name).read_text().strip() != value:
                (path / name).write_text(value)
        if path == outer and (path / "devices.deny").exists():
            for rule in DENIED:
                (path / "devices.deny").write_text(rule)
    return inner


def limit_payload(group: str, memory: int, *, deadline: float = 5) -> bool:
    """Repeat a machine's memory limit where the machine reads it; True when it was written.

    On v2 systemd-nspawn moves the machine into `payload` below the scope. That group is the machine's root, and its
    memory.max says "max": kubelet would give out the memory of the whole host. v1 needs nothing of this.
    """
    end = time.monotonic() + deadline
    while _unified() and time.monotonic() < end:
        for scope in _scopes(group):
            if (scope / "payload" / "memory.max").exists():
                (scope / "payload" / "memory.max").write_text(str(memory))
                return True
        time.sleep(0.05)
    return False


def _scopes(pattern: str) -> list[Path]:
    return sorted(ROOT.glob(f"**/{pattern}.scope"))


def groups(tag: str = "") -> set[str]:
    """The names of all groups of a lab; without a tag, of all labs of this host."""
    pattern = f"{PREFIX}{tag}*"
    if _unified():
        return {path.stem for path in _scopes(pattern)}
    return {path.name for tree in hierarchies() for path in tree.glob(pattern)}


def members(group: str) -> set[int]:
    """The processes of a group and of all groups in it."""
    roots = _scopes(group) if _unified() else [tree / group for tree in hierarchies()]
    files = (Path(folder, "cgroup.procs") for root in roots for folder, _, _ in os.walk(root))
    return {int(line) for file in files for line in _lines(file) if line != "0"}


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text().split()
    except OSError:
        return ()


def kill(group: str, *, deadline: float = 20) -> None:
    """End every process of a group, then remove the group.

    Raises:
        LabError: processes are left after `deadline` seconds, by their ids.
    """
    end = time.monotonic() + deadline
    while left := members(group):
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _thaw(group)
        if time.monotonic() > end:
            raise LabError(
                f"processes of {group} do not end: {sorted(left)}",
                fix="see what they wait for: ps -o pid,stat,wchan,cmd; then run it again",
            )
        time.sleep(0.05)
    remove(group)


def _thaw(group: str) -> None:
    """A container that runc had frozen when runc itself was killed would never receive its own signal."""
    for folder, _, files in os.walk(ROOT / "freezer" / group):
        if "freezer.state" in files and folder != str(ROOT / "freezer" / group):
            with suppress(OSError):  # it may be gone by now
                Path(folder, "freezer.state").write_text("THAWED")


def remove(group: str) -> None:
    """Remove an empty group from every hierarchy, innermost first."""
    if _unified():
        sh("systemctl", "stop", f"{group}.scope", check=False)
        return
    for folder in _innermost_first(group):
        _rmdir(folder)


def _innermost_first(group: str) -> Iterator[Path]:
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / group, topdown=False):
            yield Path(folder)


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
    """Bytes in use by a group, without the page cache."""
    paths = _scopes(group) if _unified() else [ROOT / "memory" / group]
    used = 0
    for path in paths:
        stat = dict(line.split() for line in _text(path / "memory.stat").splitlines())
        used += int(stat.get("total_rss", stat.get("anon", 0)))
    return used


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""
