"""A machine's disk: the bundle's root file system below, the machine's own changes on top."""

import shutil
from pathlib import Path

from platformlib.lab.plan import MachinePlan, Plan
from platformlib.lab.shell import sh

# Overlay on overlay fails, so what itself makes overlays or needs a plain file system lies beside.
PLAIN = ("containerd", "kubelet", "etcd", "rancher", "platformlib")
# systemd-nspawn mounts the controllers read-only and `/` as a private mount; kubelet needs neither.
PREPARE = """[Unit]
Description=writable control groups and shared mounts, for the kubelet
DefaultDependencies=no
Before=sysinit.target containerd.service kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for c in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$c" || true; done'
ExecStart=/bin/mount --make-rshared /
[Install]
WantedBy=sysinit.target
"""


def unpack(archive: Path, folder: Path) -> Path:
    """The unpacked root file system, shared by all machines; unpacked once for each archive."""
    target = folder / archive.parent.name
    if not target.exists():
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        sh("tar", "--numeric-owner", "-C", str(partial), "-xf", str(archive), "--exclude=./dev/*")
        partial.rename(target)
    return target


def mounted(path: Path) -> bool:
    """Whether something is mounted exactly there."""
    return any(line.split()[1] == str(path) for line in Path("/proc/mounts").read_text("utf-8").splitlines())


def disk_up(plan: Plan, machine: MachinePlan, lower: Path) -> Path:
    """The machine's root, mounted and made its own: name, keys, addresses."""
    root = machine.folder / "root"
    for name in ("upper", "work", "root", *(f"var/{name}" for name in PLAIN)):
        (machine.folder / name).mkdir(parents=True, exist_ok=True)
    if not mounted(root):
        layers = f"lowerdir={lower},upperdir={machine.folder / 'upper'},workdir={machine.folder / 'work'}"
        sh("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
    _personalise(plan, machine, root)
    return root


def _personalise(plan: Plan, machine: MachinePlan, root: Path) -> None:
    names = "".join(f"{other.node.address} {other.node.name}\n" for other in plan.machines)
    files = {
        "etc/hostname": f"{machine.node.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{names}",
        "etc/resolv.conf": f"nameserver {plan.gateway}\n",
        "etc/systemd/system/lab-prepare.service": PREPARE,
        "root/.ssh/authorized_keys": authorised(plan),
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, "utf-8")
    wants = root / "etc/systemd/system/sysinit.target.wants/lab-prepare.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    if not wants.is_symlink():
        wants.symlink_to("../lab-prepare.service")
    _identify(machine, root)


def _identify(machine: MachinePlan, root: Path) -> None:
    """An id and host keys of its own: those in the archive are everybody's."""
    marker = machine.folder / "identified"
    if marker.exists():
        return
    (root / "etc/machine-id").unlink(missing_ok=True)
    sh("systemd-machine-id-setup", f"--root={root}")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    sh("ssh-keygen", "-A", "-f", str(root))
    marker.touch()


def authorised(plan: Plan) -> str:
    """The public keys that may log in: the lab's own, made once, and the one that the parameters name."""
    own = plan.folder.parent / "id_ed25519"
    if not own.exists():
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"platformlib {plan.settings.name}", "-f", str(own))
    named = plan.settings.cluster.ssh.identity
    public = [path.with_name(path.name + ".pub") for path in (own, named) if path]
    return "".join(path.read_text("utf-8") for path in public if path.exists())


def disk_down(machine: MachinePlan) -> None:
    """Unmount and delete the machine's disk."""
    root = machine.folder / "root"
    while mounted(root):
        sh("umount", str(root))
    if machine.folder.exists():
        sh("rm", "-rf", "--one-file-system", str(machine.folder))
