"""Artifacts from Debian packages: root file systems by mmdebstrap, and a static busybox."""

import os
import tarfile
from collections.abc import Sequence
from functools import partial

from platformlib.bundle.recipe import Recipe, Tool, Workspace

SUITE = "bookworm"
ISOLATED = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")
MMDEBSTRAP = Tool("mmdebstrap", "mmdebstrap")
EPOCH = "1735689600"  # files that the build itself makes get this time: same packages, same bytes

NODE_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "containerd", "runc", "containernetworking-plugins",
    "iptables", "nftables", "conntrack", "ipset", "socat", "ethtool", "iproute2", "iputils-ping", "kmod", "procps",
    "ca-certificates", "curl", "less", "sudo", "python3-minimal",
)  # fmt: skip
BASE_PACKAGES = ("iptables", "nftables", "ipset", "conntrack", "iproute2", "kmod", "ca-certificates")

# The host's name and resolver do not belong in there, nor documentation.
_CLEAN = (
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",  # else usrmerge brings all of Perl
    '--customize-hook=rm -f "$1"/etc/hostname "$1"/etc/resolv.conf',
    '--customize-hook=rm -rf "$1"/var/log/apt "$1"/var/log/*.log "$1"/var/cache/ldconfig "$1"/var/cache/debconf/*-old',
    # Else the place of the build decides whether apt's own user can work, and so whom some folders belong to.
    '--aptopt=APT::Sandbox::User "root"',
    '--aptopt=Acquire::Retries "3"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)
# The package makes host keys once for all machines; each machine makes its own when its sshd starts.
_SSH = (
    '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
    '--customize-hook=mkdir -p "$1"/etc/systemd/system/ssh.service.d',
    "--customize-hook=printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/ssh-keygen -A\\n"
    'ExecStartPre=/usr/sbin/sshd -t\\n\' > "$1"/etc/systemd/system/ssh.service.d/host-keys.conf',
)


def debian_recipe(
    name: str,
    layer: str,
    packages: Sequence[str],
    *,
    variant: str,
    extra: Sequence[str] = (),
    seconds: float,
    size: int,
) -> Recipe:
    """A root file system of Debian packages; the artifact is `<name>.tar`, and `packages.txt` with their versions."""
    options = [f"--variant={variant}", f"--include={','.join(packages)}", *_CLEAN, *extra]
    return Recipe(
        name, layer, partial(_make, name=name, options=options),
        pins={"suite": SUITE, "options": options}, tools=(MMDEBSTRAP,),
        expected_seconds=seconds, size=size, peak=size * 2,
    )  # fmt: skip


def rootfs_recipe(layer: str) -> Recipe:
    """What a machine of the lab boots: systemd, sshd, containerd, and the programs that a node calls."""
    return debian_recipe("rootfs", layer, NODE_PACKAGES, variant="minbase", extra=_SSH, seconds=40, size=450_000_000)


def base_recipe(layer: str) -> Recipe:
    """The layer under images whose program calls others: iptables (nft, as on the nodes), ipset, conntrack, kmod."""
    return debian_recipe(
        "base", layer, BASE_PACKAGES, variant="essential", extra=["--skip=output/dev"], seconds=27, size=80_000_000
    )


def _make(ws: Workspace, *, name: str, options: Sequence[str]) -> None:
    versions = '--customize-hook=chroot "$1" dpkg-query -W > \'' + str(ws.output / "packages.txt") + "'"
    _mmdebstrap(ws, [*options, versions, SUITE, str(ws.output / f"{name}.tar")])


def busybox_recipe(layer: str) -> Recipe:
    """A shell and its tools in one static file, `bin/busybox`, and the list of what it can be called by."""
    return Recipe(
        "busybox", layer, _busybox, pins={"suite": SUITE, "package": "busybox-static"},
        tools=(MMDEBSTRAP,), expected_seconds=5, size=3_000_000, peak=50_000_000,
    )  # fmt: skip


def _busybox(ws: Workspace) -> None:
    tar = ws.scratch / "busybox.tar"
    _mmdebstrap(ws, ["--variant=extract", "--include=busybox-static", "--skip=output/dev", SUITE, str(tar)])
    with tarfile.open(tar) as archive:
        member = archive.getmember("./bin/busybox")
        member.name = "bin/busybox"
        archive.extract(member, ws.output, filter="fully_trusted")
    ws.run([ws.output / "bin" / "busybox", "--list"], stdout=ws.output / "applets.txt")


def _mmdebstrap(ws: Workspace, argv: Sequence[str]) -> None:
    """In namespaces of its own: whatever ends it, its processes and mounts end with it."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "TMPDIR": str(ws.scratch), "LC_ALL": "C.UTF-8"}
    ws.run([*(ISOLATED if os.geteuid() == 0 else ()), "mmdebstrap", *argv], env=env)
