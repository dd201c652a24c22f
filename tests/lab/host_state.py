"""The state of this host as text that can be compared: all that a lab could change and leave behind."""

import os
import re
import time
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import psutil

from platformlib.lab import Lab, cgroups
from platformlib.lab.shell import sh

# What the kernel counts, and what differs with every reading.
COUNTERS = (
    "fs/aio-nr", "fs/dentry-state", "fs/file-nr", "fs/inode-nr", "fs/inode-state", "fs/quota/", "kernel/ns_last_pid",
    "kernel/pty/nr", "kernel/random/", "net/netfilter/nf_conntrack_count", "vm/stat_refresh",
)  # fmt: skip
TAG = re.compile(r"(?:\bpl|platformlib-|/run/platformlib/)([0-9a-f]{6})(?=host|-|/|\b)")
SHARED = (
    "fs/inotify/max_user_instances", "user/max_inotify_instances", "/run/platformlib", "/run/systemd/nspawn",
)  # fmt: skip
Snapshot = dict[str, list[str]]


def snapshot() -> Snapshot:
    """Kernel settings, firewall, routes, rules, links, namespaces, mounts, control groups and files below /run."""
    return {
        "sysctl": sorted(_sysctl()),
        "nft": sh("nft", "list", "ruleset").splitlines(),
        "routes": sh("ip", "route", "show", "table", "all").splitlines()
        + sh("ip", "-6", "route", "show", "table", "all").splitlines(),
        "rules": sh("ip", "rule").splitlines(),
        "links": [line.split("> mtu")[0] for line in sh("ip", "-o", "link").splitlines()],
        "addresses": [line.split("\\")[0] for line in sh("ip", "-o", "address").splitlines()],
        "namespaces": sh("ip", "netns", "list").splitlines(),
        # Without ids, which count up.
        "mounts": [line.split(" ", 2)[2] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()],
        "groups": sorted(f"{tree}/{name}" for tree in cgroups.hierarchies() for name in _folders(tree)),
        "run": sorted(_files(Path("/run"), depth=4)),
    }


def _sysctl() -> Iterator[str]:
    root = Path("/proc/sys")
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            key = str(path.relative_to(root))
            if not key.startswith(COUNTERS):
                try:
                    yield f"{key} = {' '.join(path.read_text('utf-8', errors='replace').split())}"
                except OSError as error:
                    yield f"{key}: {type(error).__name__}"


def _folders(tree: Path) -> list[str]:
    return [path.name for path in tree.iterdir() if path.is_dir()]


def _files(folder: Path, depth: int) -> Iterator[str]:
    for path in folder.iterdir() if depth else ():
        yield str(path)
        if path.is_dir() and not path.is_symlink() and not path.is_mount():
            yield from _files(path, depth - 1)


def differences(before: Snapshot, after: Snapshot, lab: Lab) -> str:
    """What has changed on the host, as a diff of each part; nothing if nothing has.

    Other labs may come and go meanwhile: what bears another lab's tag or lies in its state folder is left out, and
    while there is one, what all labs share.
    """
    shared = any(_foreign(line, lab) for there in (before, after) for line in there["groups"])
    found: list[str] = []
    for part in before:
        old, new = (_ours(there[part], lab, shared=shared) for there in (before, after))
        found += unified_diff(old, new, part, part, n=0, lineterm="")
    return "\n".join(found)


def _ours(lines: list[str], lab: Lab, *, shared: bool) -> list[str]:
    return [line for line in lines if not _foreign(line, lab) and not (shared and line.startswith(SHARED))]


def _foreign(line: str, lab: Lab) -> bool:
    tags = set(TAG.findall(line))
    disk = "/lab/machines/" in line and str(lab.plan.state) not in line
    return (bool(tags) and lab.plan.tag not in tags) or disk


def processes(word: str, *, patience: float = 0) -> list[str]:
    """Processes other than this one whose command line has the word; waits for those that end by themselves."""
    deadline = time.monotonic() + patience
    while True:
        found = [
            f"{process.pid} {' '.join(process.info['cmdline'])[:160]}"
            for process in psutil.process_iter(["cmdline"])
            if process.pid != os.getpid() and word in " ".join(process.info["cmdline"] or ())
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)
