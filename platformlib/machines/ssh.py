"""Machines over SSH, by the system's own OpenSSH client.

OpenSSH rather than a Python implementation: it honours the user's configuration, agent, jump hosts and hardware
keys, shares one connection among all commands, and moves a 170 MB binary in about a second.
"""

import atexit
import hashlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from platformlib.errors import AuthenticationFailed, HostKeyChanged, NodeError, NodeUnreachable
from platformlib.machines.machine import Completed, Machine
from platformlib.settings.models import Node, Ssh

SSH_FAILED = 255


def connect(node: Node, ssh: Ssh, *, state: Path) -> Machine:
    """The machine of one node; nothing is sent before the first command.

    `state` is the folder that keeps the platform's own key (`id_ed25519`) and the known host keys.
    """
    if node.connection == "local":
        return Machine(node.name, str(node.address))
    return SshMachine(node.name, str(node.address), ssh, state)


class SshMachine(Machine):
    """A machine reached over SSH, as root or through passwordless sudo."""

    def __init__(self, name: str, address: str, ssh: Ssh, state: Path) -> None:
        super().__init__(name, address)
        self.known_hosts = ssh.known_hosts or state / "known_hosts"
        own = state / "id_ed25519"
        self.identity = ssh.identity or (own if own.exists() else None)
        self.user, self.port = ssh.user, ssh.port

    def command(self) -> list[str]:
        """The ssh command line up to the remote command; also for a terminal session."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "3",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "LogLevel": "ERROR",
        }
        key = ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"] if self.identity else []
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-p", str(self.port), "-l", self.user, *key, *flags, self.address]

    def argv(self, argv: Sequence[str]) -> list[str]:
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", self._control_path]
        elevated = argv if self.user == "root" else ["sudo", "-n", *argv]
        ssh, *rest = self.command()
        return [ssh, *shared, *rest, "--", shlex.join(elevated)]

    @property
    def _control_path(self) -> str:
        """One shared connection for each key and set of known hosts: another key must be judged anew."""
        trust = hashlib.sha256(f"{self.identity}{self.known_hosts}".encode()).hexdigest()[:8]
        return f"ControlPath={_sockets()}/{trust}%C"

    def _communicate(self, argv: list[str], data: bytes | None, timeout: float, shown: str) -> Completed:
        done = super()._communicate(argv, data, timeout, shown)
        if done.status == SSH_FAILED:
            raise self.failure(done.stderr.strip())
        return done

    def failure(self, message: str) -> NodeError:
        """What an ssh client's last words mean, and what to do about it."""
        if "HOST IDENTIFICATION HAS CHANGED" in message or "Host key verification failed" in message:
            fix = f"if the machine was rebuilt: ssh-keygen -f {self.known_hosts} -R {self.address}"
            return HostKeyChanged(self.name, f"another host key than the one kept in {self.known_hosts}", fix=fix)
        if "Permission denied" in message:
            who = f"{self.user}@{self.address}:{self.port}"
            fix = f"put the public half of {self.identity or 'your key'} into that user's authorized_keys"
            return AuthenticationFailed(self.name, f"{who} refused the key {self.identity or 'of the agent'}", fix=fix)
        last = (message.splitlines() or ["no answer"])[-1]
        fix = f"is it on, and does sshd listen on {self.address}:{self.port}?"
        return NodeUnreachable(self.name, f"no SSH connection: {last}", fix=fix)


@cache
def _sockets() -> str:
    """A short path, as a socket's may have 108 characters; gone with the process, and the connections before it."""
    folder = tempfile.mkdtemp(prefix="plssh")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(hang_up)
    return folder


def hang_up() -> None:
    """End every shared connection of this process."""
    for socket in Path(_sockets()).iterdir():
        subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"], capture_output=True, check=False)
