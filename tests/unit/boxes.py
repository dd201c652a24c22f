"""A machine in namespaces of its own: the bundle's root file system, private mounts, processes and network.

Scripts that delete, unmount and edit firewalls run here for real; nothing of this host is in reach. What has no place
in a chroot (systemd, containerd, kubeadm) are stand-ins that write down how they were called.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from platformlib.machines import Machine
from tests.unit.sshd import rootfs

# PATH of the machine begins with the stand-ins' folder.
START = """set -e
mount --make-rprivate /
mount --bind "$1" "$1"; mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/run"
ip link set lo up
exec chroot "$1" sh -c 'echo ready; sleep 100000'
"""
CALLS = "/calls"
STAND_IN = f"""#!/bin/sh
echo "$(basename "$0") $*" >> {CALLS}
"""
# Every Kubernetes program in one file, as the bundle has it; what FAIL in /etc says decides how kubeadm ends.
PROGRAM = f"""#!/bin/sh
name=$(basename "$0")
[ "$1" = --version ] && {{ echo "Kubernetes VERSION"; exit; }}
echo "$name $*" >> {CALLS}
[ "$name" = kubeadm ] || exit 0
case "$1" in
  init | join)
    mkdir -p /etc/kubernetes/manifests /etc/kubernetes/pki /var/lib/kubelet/pods
    cp "$3" /run/given; touch /etc/kubernetes/kubelet.conf /etc/kubernetes/pki/ca.crt
    [ ! -e /etc/fail ] || {{ echo "kubeadm's last words"; exit 1; }}
    touch /etc/kubernetes/admin.conf /etc/kubernetes/manifests/etcd.yaml ;;
  reset) rm -rf /etc/kubernetes/manifests/* /etc/kubernetes/pki/* /etc/kubernetes/kubelet.conf /var/lib/kubelet/* ;;
esac
"""


class Box(Machine):
    """A machine inside the namespaces of a process."""

    def __init__(self, name: str, root: Path, process: int, *, dry_run: bool = False) -> None:
        super().__init__(name, "127.0.0.1", dry_run=dry_run)
        self.root, self.process = root, process

    def argv(self, argv: Sequence[str]) -> list[str]:
        path = "PATH=/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        enter = ["nsenter", "-t", str(self.process), "-m", "-n", "-p", "--", "chroot", str(self.root)]
        return [*enter, "env", "-i", path, *argv]

    def at(self, path: str) -> Path:
        """Where this host sees a path of the machine's own disk."""
        return self.root / path.lstrip("/")

    def calls(self) -> list[str]:
        """How the stand-ins were called since the last time."""
        lines = self.at(CALLS).read_text().splitlines() if self.at(CALLS).exists() else []
        self.at(CALLS).unlink(missing_ok=True)
        return lines

    def stand_in(self, name: str, script: str = "") -> None:
        path = self.at(f"/stand-ins/{name}")
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAND_IN + script)
        path.chmod(0o755)

    def files(self, *folders: str) -> dict[str, str]:
        """Content of every file, and target of every link, below some folders."""
        found = [it for folder in folders for it in sorted(self.at(folder).rglob("*")) if not it.is_dir()]
        return {
            f"/{it.relative_to(self.root)}": f"-> {it.readlink()}"
            if it.is_symlink()
            else it.read_text(errors="replace")
            for it in found
        }


@contextmanager
def box(folder: Path, name: str = "box") -> Iterator[Box]:
    """Start one; it ends with all that it holds."""
    root = rootfs(folder)
    argv = ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--mount-proc", "sh", "-c", START, "sh", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            made = Box(name, root, int(children[0]))
            for each in ("systemctl", "ctr"):
                made.stand_in(each)
            yield made
        finally:
            process.kill()


def program(folder: Path, version: str) -> Path:
    """A stand-in for the bundle's program."""
    path = folder / f"program-{version}"
    path.write_text(PROGRAM.replace("VERSION", version))
    return path
