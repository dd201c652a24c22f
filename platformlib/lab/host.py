"""Whether this host can carry the lab: every missing thing by name, with its fix, before anything is made."""

import os
import shutil
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import psutil

from platformlib.errors import LabError
from platformlib.lab import cgroups
from platformlib.lab.machine import quantity
from platformlib.lab.network import routes_of_host
from platformlib.lab.plan import Plan

PROGRAMS = {
    "ip": "iproute2",
    "systemd-nspawn": "systemd-container",
    "ssh": "openssh-client",
    "dnsmasq": "dnsmasq-base",
    "docker-registry": "docker-registry",
    "mount": "mount",
    "tar": "tar",
}
INTERNET = {"slirp4netns": "slirp4netns", "nft": "nftables"}
DISK = 6 * 2**30


def missing(plan: Plan) -> Iterator[str]:
    """Each thing that the lab needs and this host lacks, with its fix."""
    if os.geteuid() != 0:
        yield "not root: machines need namespaces and mounts — run it as root"
    programs = PROGRAMS | (INTERNET if plan.settings.lab.internet else {})
    for program, package in programs.items():
        if not shutil.which(program):
            yield f"no `{program}` — apt-get install {package}"
    filesystems = Path("/proc/filesystems").read_text("utf-8").split()
    if "overlay" not in filesystems:
        yield "no overlay file system in the kernel — modprobe overlay"
    yield from _controllers()
    yield from _room(plan)
    if shutil.which("ip"):
        yield from _subnet(plan)


def _controllers() -> Iterator[str]:
    if cgroups.version() == 1:
        there = {path.name for path in cgroups.hierarchies()}
        for needed in ("cpu", "cpuset", "memory", "pids"):
            if not any(needed in name.split(",") for name in there):
                yield f"no cgroup controller `{needed}` — mount it below /sys/fs/cgroup"
    elif not Path("/run/systemd/system").exists():
        yield "cgroup v2 without a running systemd — boot with systemd, which delegates each machine its group"


def _room(plan: Plan) -> Iterator[str]:
    size = plan.settings.lab.machine
    wanted = quantity(size.memory) * len(plan.machines)
    if wanted > (total := psutil.virtual_memory().total):
        each = f"{len(plan.machines)} machines of {size.memory}"
        yield f"{each} are more than this host's {total >> 30} GiB — lower lab.machine.memory"
    if (free := shutil.disk_usage(plan.folder.parent).free) < DISK:
        where = f"below {plan.folder.parent}"
        yield f"{free >> 20} MiB free {where}, {DISK >> 20} needed — free some, or set PLATFORMLIB_STATE"


def _subnet(plan: Plan) -> Iterator[str]:
    for route in routes_of_host():
        if route["dst"] == "default" or route.get("dev") == plan.link:
            continue
        if IPv4Network(route["dst"], strict=False).overlaps(plan.network):
            yield (
                f"this host already routes {route['dst']} ({route.get('dev', '?')}), which overlaps the lab's "
                f"{plan.network} — choose another cluster.network.nodes, or stop what uses it"
            )


def check(plan: Plan) -> None:
    """Refuse a host that cannot carry the lab.

    Raises:
        LabError: with every missing thing and its fix.
    """
    if faults := list(missing(plan)):
        raise LabError("\n  - ".join(["this host cannot carry the lab; nothing was made", *faults]))
