"""A real sshd on loopback, below a temporary folder: this host's own, or that of the bundle's root file system.

The bundle's runs in a chroot inside a mount namespace of its own, so that it needs nothing of this host.
"""

import os
import pwd
import selectors
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from platformlib.bundle import Bundle
from platformlib.errors import PlatformError
from platformlib.machines.ssh import SshMachine
from platformlib.settings.models import Ssh

PARTS = ("bin", "sbin", "lib", "lib64", "etc", "root", "usr/sbin", "usr/bin", "usr/lib/x86_64-linux-gnu", "usr/lib64")
HEAVY = ("usr/bin/containerd*", "usr/bin/ctr", "usr/sbin/runc", "usr/sbin/docker*", "usr/lib/cni", "usr/bin/perl*")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
MaxStartups 100
AllowTcpForwarding yes
AllowAgentForwarding yes
LogLevel VERBOSE
"""
IN_CHROOT = """set -e
mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; mkdir -p "$1/run/sshd"; mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1/run/sshd"; exec chroot "$1" /usr/sbin/sshd -D -e -f "$2"
"""


@dataclass(frozen=True)
class Server:
    """A running sshd: `root` is what it takes for `/`, `state` holds the key that it accepts."""

    port: int
    root: Path
    state: Path
    log: Path

    def machine(self, port: int | None = None, state: Path | None = None) -> SshMachine:
        """The machine behind it, or behind another port that leads to it."""
        return SshMachine("m", "127.0.0.1", Ssh(user=user(), port=port or self.port), state or self.state)

    def at(self, path: str) -> Path:
        """Where this host sees a path of the machine."""
        return self.root / path.lstrip("/")


def user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def rootfs(folder: Path) -> Path:
    """The bundle's root file system, as far as a shell and sshd need it; skips the test where there is none."""
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    try:
        archive = Bundle().rootfs
    except PlatformError as error:
        pytest.skip(str(error))
    root = folder / "root"
    root.mkdir()
    without = [f"--exclude=./{pattern}" for pattern in (*HEAVY, "dev/*")]
    subprocess.run(
        ["tar", "-C", str(root), "-xf", str(archive), *without, *(f"./{part}" for part in PARTS)], check=True
    )
    for name in ("dev", "proc", "run", "sys", "tmp", "var/lib", "var/log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Start it, and end it with everything that it started."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("no OpenSSH client")
    own = Path("/usr/sbin/sshd")
    chrooted = os.geteuid() == 0 or not own.exists()
    root = rootfs(folder) if chrooted else Path("/")
    keys = root / "etc/sshd-test" if chrooted else folder / "sshd"
    keys.mkdir()
    state = folder / "state"
    state.mkdir()
    for path in (keys / "host", state / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    shutil.copy(state / "id_ed25519.pub", keys / "authorized")
    port, log = free_port(), folder / "sshd.log"
    seen = Path("/", *keys.relative_to(root).parts)
    (keys / "config").write_text(CONFIG.format(port=port, folder=seen), "utf-8")
    argv = ["unshare", "-m", "--pid", "--fork", "--kill-child", "sh", "-c", IN_CHROOT, "sh", str(root)]
    start = [*argv, str(seen / "config")] if chrooted else [str(own), "-D", "-e", "-f", str(seen / "config")]
    with log.open("wb") as output, subprocess.Popen(start, stdout=output, stderr=output) as process:
        try:
            _wait(port, process, log)
            yield Server(port, root, state, log)
        finally:
            process.kill()  # `unshare --fork` ignores SIGTERM; its namespace ends with it


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.02)


@contextmanager
def cut_after(port: int, *, sent: int = 2**40, received: int = 2**40) -> Iterator[int]:
    """A port that leads to another one; its connections are cut after so many bytes to or from there."""
    running = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=_accept, args=(listener, port, {"to": sent, "from": received}, running))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.set()
            thread.join()


def _accept(listener: socket.socket, port: int, limits: dict[str, int], ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            _relay(client, server, limits, ended)


def _relay(client: socket.socket, server: socket.socket, limits: dict[str, int], ended: threading.Event) -> None:
    left = dict(limits)
    with selectors.DefaultSelector() as waiting:
        for near, far, way in ((client, server, "to"), (server, client, "from")):
            waiting.register(near, selectors.EVENT_READ, (near, far, way))
        while not ended.is_set():
            for key, _ in waiting.select(0.05):
                near, far, way = key.data
                data = near.recv(65536)[: left[way]]
                left[way] -= len(data)
                far.sendall(data)
                if not data or not left[way]:
                    return
