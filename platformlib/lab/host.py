"""This host: whether it can carry a lab, a range that is free on it, its lock, and its one limit that a lab raises."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from pathlib import Path

import psutil

from platformlib.errors import LabError
from platformlib.lab import cgroups, plan
from platformlib.lab.plan import Record
from platformlib.lab.shell import sh
from platformlib.paths import cache_dir
from platformlib.settings import Settings

PROGRAMS = {
    "ip": "iproute2",
    "systemd-nspawn": "systemd-container",
    "ssh": "openssh-client",
    "dnsmasq": "dnsmasq-base",
    "docker-registry": "docker-registry",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "tar": "tar",
}
INTERNET = {"slirp4netns": "slirp4netns", "nft": "nftables"}
DISK = 6 * 2**30
# overlayfs and systemd-nspawn read these as separators in a list of paths.
SEPARATORS = ",:\\\n"
HALF = 1  # a prefix: VPNs route 0.0.0.0/1 and 128.0.0.0/1 in place of a default route
# Where a lab looks for a range: from an address on, in a private block. It begins past the ranges of home routers.
PLACES = (
    ("192.168.60.0", "192.168.0.0/16"),
    ("172.16.0.0", "172.16.0.0/12"),
    ("10.0.0.0", "10.0.0.0/8"),
    ("192.168.0.0", "192.168.0.0/16"),
)
TRIES = 512


def check(settings: Settings, folder: Path) -> None:
    """Refuse a host that cannot carry the lab of these settings, before anything is made.

    Raises:
        LabError: with every missing thing and its fix.
    """
    if faults := list(missing(settings, folder)):
        raise LabError("\n  - ".join(["this host cannot carry the lab; nothing was made", *faults]))


def missing(settings: Settings, folder: Path) -> Iterator[str]:
    """Each thing that a lab needs and this host lacks, with its fix. `folder` is where the disks would be."""
    if os.geteuid() != 0:
        yield "not root: machines need namespaces and mounts — run it as root"
    size = settings.lab.machine if settings.lab else None
    for program, package in (PROGRAMS | (INTERNET if settings.lab and settings.lab.internet else {})).items():
        if not shutil.which(program):
            yield f"no `{program}` — apt-get install {package}"
    if "overlay" not in Path("/proc/filesystems").read_text("utf-8").split():
        yield "no overlay file system in the kernel — modprobe overlay"
    yield from _controllers()
    if size:
        yield from _memory(size.memory, len(settings.cluster.nodes))
    yield from _disk(folder)


def _controllers() -> Iterator[str]:
    if cgroups.version() == 1:
        there = {name for path in cgroups.hierarchies() for name in path.name.split(",")}
        for needed in ("cpu", "cpuset", "devices", "memory", "pids"):
            if needed not in there:
                yield f"no cgroup controller `{needed}` — mount it below /sys/fs/cgroup"
    elif not Path("/run/systemd/system").exists():
        yield "cgroup v2 without a running systemd — boot with systemd, which delegates each machine its group"


def _memory(each: str, count: int) -> Iterator[str]:
    if cgroups.quantity(each) * count > (total := psutil.virtual_memory().total):
        yield f"{count} machines of {each} are more than this host's {total >> 30} GiB — lower lab.machine.memory"


def _disk(folder: Path) -> Iterator[str]:
    for path, variable in ((folder, "PLATFORMLIB_STATE"), (cache_dir(), "PLATFORMLIB_CACHE")):
        if set(SEPARATORS) & set(str(path)):
            yield f"{path} has a comma, a colon or a backslash, which overlay mounts cannot take — set {variable}"
    if (free := shutil.disk_usage(_existing(folder)).free) < DISK:
        yield f"{free >> 20} MiB free below {folder}, {DISK >> 20} needed — free some, or set PLATFORMLIB_STATE"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


@dataclass(frozen=True)
class Route:
    """A range that this host has a route for, and how the host names it."""

    network: IPv4Network
    via: str


def routes(listing: str | None = None, *, own: str = "") -> list[Route]:
    """The ranges that this host routes, in every table; without default routes and the link `own`.

    Args:
        listing: what `ip -j -4 route show table all` says; asked from the host if it is not given.
    """
    text = sh("ip", "-j", "-4", "route", "show", "table", "all") if listing is None else listing
    found: list[Route] = []
    for entry in json.loads(text or "[]"):
        device = entry.get("dev") or entry.get("type", "several links")
        if entry["dst"] == "default" or entry.get("type") in ("broadcast", "multicast") or entry.get("dev") == own:
            continue
        network = IPv4Network(entry["dst"], strict=False)
        if network.prefixlen > HALF:
            found.append(Route(network, device))
    return found


def choose(wanted: IPv4Network, taken: Sequence[Route], avoid: Iterable[IPv4Network]) -> tuple[IPv4Network, str]:
    """A range for a lab: the wanted one if it is free, else another of its size; and why it is another.

    Args:
        taken: what the host routes and other labs have.
        avoid: the ranges of pods and services.

    Raises:
        LabError: no range of this size is free.
    """
    holder = next((route for route in taken if route.network.overlaps(wanted)), None)
    if holder is None:
        return wanted, ""
    used = [*(route.network for route in taken), *avoid]
    for candidate in _candidates(wanted.prefixlen):
        if not any(candidate.overlaps(network) for network in used):
            return candidate, f"this host already routes {holder.network} ({holder.via})"
    raise LabError(
        f"this host already routes {holder.network} ({holder.via}), and no range of the size of {wanted} is free",
        fix="choose a smaller cluster.network.nodes, such as a /24",
    )


def _candidates(prefix: int) -> Iterator[IPv4Network]:
    size = 2 ** (32 - prefix)
    for start, place in PLACES:
        begin = -(-int(IPv4Address(start)) // size) * size
        end = int(IPv4Network(place).broadcast_address)
        for address in islice(range(begin, end + 1, size), TRIES):
            if (network := IPv4Network((address, prefix))).subnet_of(IPv4Network(place)):
                yield network


def taken(own: Record | None, name: str) -> list[Route]:
    """What a new lab must not overlap: the host's routes, and the ranges of this state folder's other labs."""
    others = [record for record in plan.records() if record.name != name]
    link = f"pl{own.tag}host" if own else ""
    return [*routes(own=link), *(Route(IPv4Network(it.network), f"the lab {it.name}") for it in others)]


@contextmanager
def lock(on_event: Callable[[str], None], *, deadline: float = 600) -> Iterator[None]:
    """One `lab up` or `lab down` at a time on this host, whoever calls it; a killed one lets go by itself.

    Raises:
        LabError: another one held the lock until the deadline.
    """
    path = plan.RUN / "lock"
    end = time.monotonic() + deadline
    descriptor, said = _locked(path), False
    while descriptor is None:
        if not said:
            on_event("another `lab up` or `lab down` is at work on this host: waiting for it")
            said = True
        if time.monotonic() > end:
            raise LabError(f"{path} was held for {deadline:.0f} s", fix=f"see who holds it: fuser -v {path}")
        time.sleep(0.2)
        descriptor = _locked(path)
    try:
        yield
    finally:
        if not cgroups.groups() and not any(entry != path for entry in plan.RUN.iterdir()):
            path.unlink()
            with suppress(OSError):
                plan.RUN.rmdir()
        os.close(descriptor)


def _locked(path: Path) -> int | None:
    """An open, locked file; None if another process has it, or removed it meanwhile."""
    path.parent.mkdir(exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # the last lab's folder was removed just now
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


@dataclass(frozen=True)
class Inotify:
    """The limit of inotify instances, of which Debian allows 128 a user: three machines exceed it.

    systemd, containerd, kubelet and every container that watches files take some. The host's own value is kept with
    the value that was set and the boot it belongs to: a record of another boot, or one that somebody has overruled
    since, restores nothing.
    """

    limit: Path = Path("/proc/sys/fs/inotify/max_user_instances")
    kept: Path = plan.RUN / "inotify.json"
    boot: Path = Path("/proc/sys/kernel/random/boot_id")
    enough: int = 1024

    def raise_limit(self) -> bool:
        """Allow enough; True when the limit was raised now."""
        now = int(self.limit.read_text("utf-8"))
        if now >= self.enough:
            return False
        record = {"boot": self._boot(), "before": now, "set": self.enough}
        self.kept.write_text(json.dumps(record), "utf-8")
        self.limit.write_text(str(self.enough), "utf-8")
        return True

    def give_back(self) -> None:
        """Restore the host's own value if the present one is the one that was set."""
        if not self.kept.exists():
            return
        with suppress(ValueError, KeyError):
            record = json.loads(self.kept.read_text("utf-8"))
            now = int(self.limit.read_text("utf-8"))
            if record["boot"] == self._boot() and now == record["set"]:
                self.limit.write_text(str(record["before"]), "utf-8")
        self.kept.unlink()

    def _boot(self) -> str:
        return self.boot.read_text("utf-8").strip()
