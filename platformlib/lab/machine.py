"""One machine of the lab: its disk, and systemd in a container of systemd-nspawn, reached by SSH like any other.

A disk is the bundle's root file system below and the machine's own changes on top. What the host writes into it, it
writes before the machine has run for the first time: later, a link on the machine could lead the host's pen astray.
"""

import shutil
import time
from pathlib import Path

from platformlib.errors import LabError, NodeUnreachable
from platformlib.lab import cgroups
from platformlib.lab.parameters import REMAKE
from platformlib.lab.plan import MachinePlan, Plan
from platformlib.lab.shell import launch, sh
from platformlib.machines import connect
from platformlib.settings.models import Lab

# Overlay on overlay fails, so what itself makes overlays or needs a plain file system lies beside.
PLAIN = ("containerd", "kubelet", "etcd", "rancher", "platformlib")
# systemd-nspawn's own list, and what kubelet and the pods' networks need. Modules, the clock, raw memory and ports,
# MAC policies and the host's power are not in it.
ADDED = ("CAP_NET_ADMIN", "CAP_SYSLOG")
DROPPED = ("CAP_LINUX_IMMUTABLE",)  # an immutable file would outlive `lab down`
NSPAWN = Path("/run/systemd/nspawn")
# kubelet sets these where they differ, and ends where it cannot. They are the host's, and read-only on a machine.
KERNEL = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
PREPARE = f"""#!/bin/sh
# kubelet needs control groups that it may write, and mounts that it may share.
for group in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$group" || true; done
mount --make-rshared /
# Each of these kernel settings becomes a file of this machine, which begins with the host's value. The host's stays.
mkdir -p /run/lab
for key in {" ".join(KERNEL)}; do
  copy=/run/lab/$(echo "$key" | tr / .)
  cat "/proc/sys/$key" > "$copy" && mount --bind "$copy" "/proc/sys/$key"
done
"""
UNIT = """[Unit]
Description=writable control groups, shared mounts, kernel settings of this machine's own
DefaultDependencies=no
Before=sysinit.target systemd-sysctl.service containerd.service kubelet.service k3s.service k3s-agent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/lab-prepare
[Install]
WantedBy=sysinit.target
"""
LAST = 1500  # characters of a console that an error shows


def mounts(text: str | None = None) -> list[Path]:
    """Where something is mounted, in the order of mounting."""
    lines = (text if text is not None else Path("/proc/mounts").read_text("utf-8")).splitlines()
    return [Path(_unescaped(line.split(" ")[1])) for line in lines]


def _unescaped(word: str) -> str:
    """The kernel writes a space in a path as `\\040`."""
    parts = word.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])


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


def disk_up(plan: Plan, machine: MachinePlan, lower: Path) -> Path:
    """The machine's root, mounted; with its own name, keys and addresses from the first time on.

    Raises:
        LabError: the root file system that the disk was made on is not in the cache any more.
    """
    root, first = machine.folder / "root", machine.folder / "identified"
    if first.exists():  # changes of one root file system mean nothing on top of another
        lower = lower.with_name(first.read_text("utf-8"))
    if not lower.exists():
        raise LabError(f"{machine.node.name} was made on {lower}, which is gone", fix=REMAKE)
    for name in ("upper", "work", "root", *(f"var/{name}" for name in PLAIN)):
        (machine.folder / name).mkdir(parents=True, exist_ok=True)
    if root not in mounts():
        layers = f"lowerdir={lower},upperdir={machine.folder / 'upper'},workdir={machine.folder / 'work'}"
        sh("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
    if not first.exists():
        _identify(plan, machine, root)
        first.write_text(lower.name, "utf-8")
    return root


def _identify(plan: Plan, machine: MachinePlan, root: Path) -> None:
    """A name, an id and host keys of its own, the lab's key to log in with, and the unit that prepares it."""
    public = own_key(plan).with_suffix(".pub").read_text("utf-8")
    files = {
        "etc/hostname": (f"{machine.node.name}\n", 0o644),
        "etc/hosts": ("", 0o644),  # the lab's list is mounted there
        "etc/resolv.conf": (f"nameserver {plan.gateway}\n", 0o644),
        "etc/systemd/system/lab-prepare.service": (UNIT, 0o644),
        "usr/local/lib/lab-prepare": (PREPARE, 0o755),
        "root/.ssh/authorized_keys": (public, 0o600),
    }
    for name, (content, mode) in files.items():
        path = root / name
        path.parent.mkdir(mode=0o700 if name.startswith("root/") else 0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content, "utf-8")
        path.chmod(mode)
    wants = root / "etc/systemd/system/sysinit.target.wants/lab-prepare.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.unlink(missing_ok=True)
    wants.symlink_to("../lab-prepare.service")
    (root / "etc/machine-id").unlink(missing_ok=True)
    sh("systemd-machine-id-setup", f"--root={root}")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    sh("ssh-keygen", "-A", "-f", str(root))


def own_key(plan: Plan) -> Path:
    """The lab's own key, made once: it alone may log in."""
    key = plan.state / "id_ed25519"
    if not key.with_suffix(".pub").exists():
        key.unlink(missing_ok=True)
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"platformlib {plan.settings.name}", "-f", str(key))
    return key


def disk_down(folder: Path) -> None:
    """Unmount and delete the disks of a lab.

    Raises:
        LabError: a disk is still in use.
    """
    deadline = time.monotonic() + 10
    while below := [path for path in mounts() if path.is_relative_to(folder)]:
        sh("umount", str(below[-1]), check=time.monotonic() > deadline)
        time.sleep(0.05 if below[-1] in mounts() else 0)
    if folder.exists():
        sh("rm", "-rf", "--one-file-system", str(folder))


def running(machine: MachinePlan) -> bool:
    """Whether the machine has processes."""
    return bool(cgroups.members(machine.group))


def boot(plan: Plan, machine: MachinePlan, root: Path, size: Lab) -> bool:
    """Start the machine; False for one that runs."""
    if running(machine):
        return False
    memory = cgroups.quantity(size.machine.memory)
    argv = cgroups.start_argv(machine.group, memory, size.machine.cpus, nspawn(plan, machine, root))
    (machine.folder / "console.log").unlink(missing_ok=True)
    launch(argv, machine.folder / "console.log", SYSTEMD_NSPAWN_API_VFS_WRITABLE="network")
    cgroups.limit_payload(machine.group, memory)
    return True


def nspawn(plan: Plan, machine: MachinePlan, root: Path) -> list[str]:
    """The systemd-nspawn command line.

    Of /proc/sys only `net` is writable, which belongs to the machine's network namespace.
    """
    binds = [f"--bind={machine.folder}/var/{name}:/var/lib/{name}" for name in PLAIN]
    return [
        "systemd-nspawn",
        f"--directory={root}",
        "--boot",
        f"--network-namespace-path={machine.namespace}",
        f"--machine={unique_name(plan.tag, machine.node.name)}",
        f"--hostname={machine.node.name}",
        "--register=no",
        "--keep-unit",
        f"--capability={','.join(ADDED)}",
        f"--drop-capability={','.join(DROPPED)}",
        "--private-users=no",
        "--system-call-filter=@keyring bpf",
        "--resolv-conf=off",
        "--bind=/dev/kmsg",
        f"--bind-ro={plan.folder / 'hosts'}:/etc/hosts",
        *binds,
    ]


def unique_name(tag: str, node: str) -> str:
    """What systemd-nspawn calls the machine on this host, where another lab may have one of the same name."""
    return f"pl{tag}-{node}"[:64].rstrip("-")


def forget(tag: str, folder: Path) -> None:
    """Remove what systemd-nspawn leaves below /run when it is killed: a folder and a lock for each machine."""
    for path in NSPAWN.glob(f"propagate/pl{tag}-*"):
        shutil.rmtree(path)
    for root in folder.glob("machines/*/root"):
        made = root.stat()
        (NSPAWN / "locks" / f"inode-{made.st_dev}:{made.st_ino}").unlink(missing_ok=True)


def wait_for_login(plan: Plan, machine: MachinePlan, *, deadline: float = 60) -> float:
    """Wait until SSH answers; the seconds it took.

    Raises:
        LabError: with the last lines of the machine's console.
    """
    start = time.monotonic()
    login = connect(machine.node, plan.settings.cluster.ssh, state=plan.state)
    while True:
        try:
            login.run(["true"], timeout=10)
        except NodeUnreachable as error:
            waited = time.monotonic() - start
            if waited > deadline or (waited > 2 and not running(machine)):  # noqa: PLR2004 - seconds to start
                console = (machine.folder / "console.log").read_text("utf-8", errors="replace")[-LAST:]
                raise LabError(f"{machine.node.name} did not come up: {error}\n{console}") from None
            time.sleep(0.2)
        else:
            return time.monotonic() - start
