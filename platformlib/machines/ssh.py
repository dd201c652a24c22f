"""Machines over SSH, by the system's own OpenSSH client.

OpenSSH rather than a Python implementation: it honours the user's aliases, agent, jump hosts and hardware keys, shares
one connection among all commands, and moves a 170 MB binary in about a second.

Of the user's configuration only how a machine is reached is taken (`REACHING`): options such as ForwardAgent,
RemoteCommand or RequestTTY would change what a command does there. `ssh -G` tells what the files of the user and the
system say of a host; the result is written to a file of our own, for `ssh -F`.
"""

import atexit
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import IO

from platformlib.errors import AuthenticationFailed, HostKeyChanged, NodeError, NodeUnreachable
from platformlib.machines.machine import Completed, Machine, Source
from platformlib.settings.models import Node, Ssh

SSH_FAILED = 255
# A remote command may end with 255 as well, and ssh reports one killed by a signal so: `sh` tells them apart.
STATUS = "platformlib: the command ended with status 255"
WRAP = f'"$@"; s=$?; [ "$s" -ne {SSH_FAILED} ] || echo "{STATUS}" >&2; exit "$s"'
REACHING = frozenset({
    "hostname", "hostkeyalias", "proxycommand",
    "identityfile", "identitiesonly", "identityagent", "certificatefile", "pkcs11provider", "securitykeyprovider",
})  # fmt: skip
FILES = frozenset({"identityfile", "certificatefile"})  # one path each, which may have spaces
# A jump host is the user's own business: its user, its port, and the host keys that the user has accepted.
JUMPING = REACHING | {"user", "port", "userknownhostsfile", "globalknownhostsfile", "stricthostkeychecking"}
LOST = re.compile(r"client_loop|Broken pipe|Connection to .* closed|mux_client|not responding")
COMMON = """\
# Written by platformlib from its parameters and from what `ssh -G` says of this machine. Overwritten at each start.
BatchMode yes
ClearAllForwardings yes
ConnectTimeout 5
ForwardAgent no
ForwardX11 no
LogLevel ERROR
PermitLocalCommand no
RemoteCommand none
RequestTTY no
ServerAliveCountMax 3
ServerAliveInterval 10
UpdateHostKeys no
"""


def connect(node: Node, ssh: Ssh, *, state: Path, dry_run: bool = False) -> Machine:
    """The machine of one node; nothing is sent before the first command.

    Args:
        state: the folder that keeps the platform's own key (`id_ed25519`) and the known host keys.
        dry_run: a machine that refuses every change.
    """
    if node.connection == "local":
        return Machine(node.name, str(node.address), dry_run=dry_run)
    return SshMachine(node.name, str(node.address), ssh, state, dry_run=dry_run)


class SshMachine(Machine):
    """A machine reached over SSH, as root or through passwordless sudo."""

    def __init__(self, name: str, address: str, ssh: Ssh, state: Path, *, dry_run: bool = False) -> None:
        super().__init__(name, address, dry_run=dry_run)
        self.known_hosts = ssh.known_hosts or state / "known_hosts"
        own = state / "id_ed25519"
        self.identity = ssh.identity or (own if own.exists() else None)
        self.user, self.port = ssh.user, ssh.port
        self._file = state / "ssh" / f"{name}.conf"

    def command(self) -> list[str]:
        """The ssh command line up to the remote command."""
        return ["ssh", "-F", str(self.config), self.address]

    def terminal(self) -> list[str]:
        """The command line of a terminal session."""
        return [*self.command()[:-1], "-t", self.address]

    def argv(self, argv: Sequence[str]) -> list[str]:
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", f"ControlPath={self._control_path}"]
        elevated = argv if self.user == "root" else ["sudo", "-n", *argv]
        return [*self.command()[:-1], *shared, self.address, "--", shlex.join(["sh", "-c", WRAP, "sh", *elevated])]

    @cached_property
    def config(self) -> Path:
        """The configuration file of this machine alone, for `ssh -F`."""
        path = self._file
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.write_text("\n".join([COMMON, *self._hosts()]) + "\n", "utf-8")
        new.chmod(0o600)
        new.replace(path)
        return path

    def _hosts(self) -> Iterator[str]:
        """A `Host` block for the machine, and one for each jump host on the way to it."""
        said = self._ask(["-l", self.user, "-p", str(self.port), self.address])
        own = [
            ("User", self.user),
            ("Port", str(self.port)),
            ("UserKnownHostsFile", _quoted(self.known_hosts)),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("StrictHostKeyChecking", "accept-new"),
        ]
        if self.identity:
            said = {key: values for key, values in said.items() if key not in FILES}
            own += [("IdentityFile", _quoted(self.identity)), ("IdentitiesOnly", "yes")]
        jumps = _jumps(said)
        yield _block(self.address, [*own, *self._by(jumps), *_kept(said, REACHING)])
        yield from self._hops(jumps, {self.address})

    def _hops(self, jumps: list[tuple[str, list[str]]], seen: set[str]) -> Iterator[str]:
        """The blocks of a chain of jump hosts; each is reached by the one before it, the first as it says itself."""
        for number, (host, options) in enumerate(jumps):
            if host not in seen:
                seen.add(host)
                said = self._ask([*options, host])
                before = jumps[:number] or _jumps(said)
                yield _block(host, [*self._by(before), *_kept(said, JUMPING)])
                yield from self._hops(before, seen)

    def _by(self, jumps: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
        """ProxyJump, spelt out: ssh's own does not quote the path of `-F`."""
        if not jumps:
            return []
        file = shlex.quote(str(self._file)).replace("%", "%%")
        return [("ProxyCommand", f"ssh -F {file} -W '[%h]:%p' {shlex.quote(jumps[-1][0])}")]

    def _ask(self, options: list[str]) -> dict[str, list[str]]:
        """What the user's and the system's configuration say of a host."""
        done = subprocess.run(["ssh", "-G", *options], capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NodeError(self.name, f"ssh cannot read its configuration: {last}", fix="correct ~/.ssh/config")
        said: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            said.setdefault(key, []).append(value)
        return said

    @cached_property
    def _control_path(self) -> str:
        """One shared connection for each configuration: another key or other known hosts must be judged anew."""
        trust = hashlib.sha256(f"{self.config}{self.config.read_text('utf-8')}".encode()).hexdigest()[:8]
        return f"{_sockets()}/{trust}%C"

    def _execute(
        self, argv: Sequence[str], source: Source, timeout: float, *, sink: IO[bytes] | None = None
    ) -> Completed:
        done = super()._execute(argv, source, timeout, sink=sink)
        if done.status != SSH_FAILED:
            return done
        said, _, last = done.stderr.rstrip("\n").rpartition("\n")
        if last == STATUS:
            return Completed(done.status, done.stdout, said)
        raise self.failure(done.stderr.strip())

    def failure(self, message: str) -> NodeError:
        """What an ssh client's last words mean, and what to do about it."""
        place = f"{self.address}:{self.port}"
        if "HOST IDENTIFICATION HAS CHANGED" in message or "Host key verification failed" in message:
            host = self.address if self.port == 22 else f"[{self.address}]:{self.port}"  # noqa: PLR2004 - ssh's port
            fix = f"if the machine was rebuilt: ssh-keygen -f {shlex.quote(str(self.known_hosts))} -R '{host}'"
            return HostKeyChanged(self.name, f"another host key than the one kept in {self.known_hosts}", fix=fix)
        if "Permission denied" in message:
            fix = f"put the public half of {self.identity or 'your key'} into that user's authorized_keys"
            who = f"{self.user}@{place}"
            return AuthenticationFailed(self.name, f"{who} refused the key {self.identity or 'of the agent'}", fix=fix)
        last = (message.splitlines() or ["ssh gave no reason"])[-1]
        if not message or LOST.search(message):
            fix = "run it again; the command may or may not have ended there"
            return NodeUnreachable(self.name, f"the SSH connection was lost: {last}", fix=fix)
        return NodeUnreachable(
            self.name, f"no SSH connection: {last}", fix=f"is it on, and does sshd listen on {place}?"
        )


def _jumps(said: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """The hosts of `ProxyJump user@host:port,…` with the options that say the same to `ssh -G`."""
    found = []
    for hop in filter(None, ",".join(said.get("proxyjump", [])).removeprefix("none").split(",")):
        user, _, place = hop.removeprefix("ssh://").rpartition("@")
        match = re.fullmatch(r"(\[.*\]|[^:]*)(?::(\d+))?|(.*)", place.rstrip("/"))
        host, port = (match[1] or match[3], match[2]) if match else (place, None)
        found.append((host.strip("[]"), [*(["-l", user] if user else []), *(["-p", port] if port else [])]))
    return found


def _kept(said: dict[str, list[str]], keys: frozenset[str]) -> list[tuple[str, str]]:
    pairs = ((key, value) for key in sorted(said) if key in keys for value in said[key])
    return [(key, f'"{value}"' if key in FILES else value) for key, value in pairs]


def _block(host: str, options: Sequence[tuple[str, str]]) -> str:
    return "\n".join([f"Host {host}", *(f"  {key} {value}" for key, value in options)])


def _quoted(path: Path) -> str:
    """A path as ssh_config reads it: one word, without expansion of `%`."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


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
        argv = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={socket}", "-O", "exit", "any"]
        subprocess.run(argv, capture_output=True, check=False)
