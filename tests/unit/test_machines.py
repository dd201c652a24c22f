"""Machines: files are written whole or not at all, and a failure names the machine, the cause and the fix."""

import ast
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import platformlib as pl
from platformlib.errors import (
    AuthenticationFailed,
    CommandFailed,
    DryRunRefused,
    HostKeyChanged,
    NodeError,
    NodeUnreachable,
    TransferFailed,
)
from platformlib.machines import Machine, connect, each, machine
from platformlib.machines.facts import facts
from platformlib.machines.ssh import SshMachine
from platformlib.settings import Node
from platformlib.settings.models import Ssh
from tests.unit import sshd
from tests.unit.sshd import Server

HERE = Machine("here", "127.0.0.1")


@given(content=st.binary(max_size=2000))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back_and_a_second_write_changes_nothing(tmp_path: Path, content: bytes) -> None:
    path = str(tmp_path / "deep" / "file")
    HERE.write(path, content, 0o600)
    assert HERE.read(path) == content
    assert HERE.write(path, content, 0o600) is False
    assert [left.name for left in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_changed_mode_alone_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert HERE.write(str(path), "x", 0o644)
    assert HERE.write(str(path), "x", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_uploaded_only_when_it_differs(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"program")
    assert [HERE.upload(source, str(target)) for _ in range(2)] == [True, False]
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_write_replaces_the_file_and_never_fills_the_old_one(tmp_path: Path) -> None:
    path, kept = tmp_path / "file", tmp_path / "kept"
    path.write_text("old")
    kept.hardlink_to(path)
    HERE.write(str(path), "new")
    assert (path.read_text(), kept.read_text()) == ("new", "old")


def test_an_altered_transfer_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    script = machine.RECEIVE.replace("cat >", "head -c 3 >")
    monkeypatch.setattr(machine, "RECEIVE", script)
    with pytest.raises(TransferFailed, match="3 of 9 bytes arrived; nothing was replaced"):
        HERE.write(str(path), "the whole")
    monkeypatch.setattr(machine, "SEND", machine.SEND.replace("tee /dev/fd/3", "tee /dev/null | head -c 2 >&3"))
    with pytest.raises(TransferFailed):
        HERE.download(str(path), tmp_path / "copy")
    assert sorted(left.name for left in tmp_path.iterdir()) == ["file"]
    assert path.read_text() == "old"


def test_what_an_earlier_crash_left_behind_is_removed(tmp_path: Path) -> None:
    left, young, other = (tmp_path / name for name in (".platformlib.abcdef", ".platformlib.ghijkl", ".other.abcdef"))
    for path in (left, young, other):
        path.touch()
    os.utime(left, (0, 0))
    os.utime(other, (0, 0))
    HERE.write(str(tmp_path / "file"), "x")
    assert (left.exists(), young.exists(), other.exists()) == (False, True, True)


WRITES: dict[str, Callable[[Machine, Path], object]] = {
    "change": lambda dry, path: dry.change(["touch", str(path)]),
    "change_shell": lambda dry, path: dry.change_shell('touch "$1"', str(path)),
    "write": lambda dry, path: dry.write(str(path), "x"),
    "upload": lambda dry, path: dry.upload(Path(__file__), str(path)),
    "remove": lambda dry, _: dry.remove(__file__),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_dry_run_reads_and_refuses_every_change(tmp_path: Path, write: Callable[[Machine, Path], object]) -> None:
    dry = Machine("here", "127.0.0.1", dry_run=True)
    with pytest.raises(DryRunRefused, match="here: a dry run changes nothing"):
        write(dry, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
    assert dry.read(__file__) == Path(__file__).read_bytes()
    assert dry.run(["echo", "read"]).stdout == "read\n"


def test_a_missing_file_is_none_and_not_an_error(tmp_path: Path) -> None:
    assert HERE.read(str(tmp_path / "none")) is None
    assert HERE.download(str(tmp_path / "none"), tmp_path / "copy") is False
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_never_read_as_shell_language() -> None:
    assert HERE.run(["printf", "%s", "$(id); `id` 'x' \"y\""]).stdout == "$(id); `id` 'x' \"y\""


def test_a_failed_command_names_machine_status_and_last_words() -> None:
    with pytest.raises(CommandFailed, match=r"here: .*status 3\n +last words"):
        HERE.shell("echo last words; exit 3")


def test_a_command_that_does_not_end_is_given_up() -> None:
    with pytest.raises(NodeError, match=r"here: .*did not end within 0.2 s"):
        HERE.run(["sleep", "5"], timeout=0.2)


def test_all_failures_are_told_together_after_all_have_ended() -> None:
    machines = [Machine(name, "127.0.0.1") for name in ("a", "b", "c")]
    with pytest.raises(NodeError) as caught:
        each(machines, lambda machine: machine.shell(f"[ {machine.name} = b ] || exit 7"))
    assert "a, c: all of these failed" in str(caught.value)


def test_results_come_back_by_machine() -> None:
    machines = [Machine(name, "127.0.0.1") for name in ("a", "b")]
    assert each(machines, lambda machine: machine.name * 2) == {"a": "aa", "b": "bb"}


def test_facts_of_this_host() -> None:
    seen = facts(HERE)
    assert (seen.cpus, abs(seen.skew) < 2, "127.0.0.1" in seen.addresses) == (os.cpu_count(), True, True)


needs_ssh = pytest.mark.skipif(not shutil.which("ssh"), reason="no OpenSSH client")


@needs_ssh
def test_nobody_listens(tmp_path: Path) -> None:
    node = Node(name="gone", address=IPv4Address("127.0.0.1"))
    with pytest.raises(NodeUnreachable, match=r"gone: no SSH connection: .*\n  fix: is it on, and does sshd listen"):
        connect(node, Ssh(port=1), state=tmp_path).run(["true"])


SAID = [
    ("@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@", HostKeyChanged, "ssh-keygen -f"),
    ("root@10.0.0.1: Permission denied (publickey).", AuthenticationFailed, "authorized_keys"),
    ("ssh: connect to host 10.0.0.1 port 22: No route to host", NodeUnreachable, "is it on"),
    ("client_loop: send disconnect: Broken pipe", NodeUnreachable, "may or may not have ended"),
    ("", NodeUnreachable, "may or may not have ended"),
]


@pytest.mark.parametrize(("said", "kind", "fix"), SAID)
def test_what_ssh_says_becomes_an_error_with_a_fix(tmp_path: Path, said: str, kind: type[NodeError], fix: str) -> None:
    error = SshMachine("m", "10.0.0.1", Ssh(), tmp_path).failure(said)
    assert type(error) is kind
    assert fix in error.fix


@needs_ssh
def test_the_command_line_of_ssh_is_understood_by_ssh(tmp_path: Path) -> None:
    argv = SshMachine("m", "10.0.0.1", Ssh(user="me", port=2222), tmp_path).command()
    shown = subprocess.run([argv[0], "-G", *argv[1:]], capture_output=True, text=True, check=True).stdout
    assert {"user me", "port 2222", "hostname 10.0.0.1", "batchmode yes"} <= set(shown.splitlines())


# A real sshd on loopback.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd.serve(tmp_path_factory.mktemp("sshd")) as made:
        yield made


OLD, NEW = b"old" * 1000, random.Random(1).randbytes(150_000)
HANDSHAKE = 4_000  # bytes before the first one of a file
CUTS = 16


def settled(folder: Path) -> None:
    """Wait until no transfer is under way on the machine: its end may come after this host has given up."""
    deadline = time.monotonic() + 10
    while list(folder.glob(".platformlib.*")):
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.02)


def test_an_upload_that_is_cut_leaves_the_old_file_or_the_new_one(server: Server, tmp_path: Path, seed: int) -> None:
    source, folder = tmp_path / "source", server.at("/upload")
    source.write_bytes(NEW)
    folder.mkdir()
    outcomes = set()
    for point in random.Random(seed).choices(range(HANDSHAKE + len(NEW)), k=CUTS):
        (folder / "file").write_bytes(OLD)
        with sshd.cut_after(server.port, sent=point) as port:
            with pytest.raises(NodeError):
                server.machine(port).upload(source, "/upload/file")
            settled(folder)
        assert (folder / "file").read_bytes() in (OLD, NEW), f"seed {seed}, cut after {point} bytes"
        outcomes.add((folder / "file").read_bytes() == OLD)
    assert True in outcomes
    assert server.machine().upload(source, "/upload/file")
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_download_that_is_cut_leaves_the_old_file(server: Server, tmp_path: Path, seed: int) -> None:
    server.at("/source").write_bytes(NEW)
    target = tmp_path / "file"
    for point in random.Random(seed).choices(range(HANDSHAKE + len(NEW)), k=CUTS):
        target.write_bytes(OLD)
        with sshd.cut_after(server.port, received=point) as port, pytest.raises(NodeError):
            server.machine(port).download("/source", target)
        assert target.read_bytes() == OLD, f"seed {seed}, cut after {point} bytes"
    assert server.machine().download("/source", target)
    assert target.read_bytes() == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert server.machine().read("/source") == NEW


@pytest.mark.parametrize("script", ["exit 255", "kill -9 $$", "echo last words >&2; exit 7"])
def test_a_remote_command_that_fails_is_no_unreachable_machine(server: Server, script: str) -> None:
    with pytest.raises(CommandFailed, match=r"m: .* ended with status (255|137|7)"):
        server.machine().shell(script)


def test_a_user_who_is_not_root_works_through_sudo(server: Server) -> None:
    if server.root == Path("/"):
        pytest.skip("no user can be made on this host")
    with server.at("/etc/passwd").open("a") as users, server.at("/etc/shadow").open("a") as passwords:
        users.write("me:x:1000:1000::/tmp:/bin/sh\n")
        passwords.write("me:*:19000::::::\n")
    (stand_in := server.at("/usr/bin/sudo")).write_text(
        '#!/bin/sh\n[ "$1" = -n ] && shift && echo by sudo; exec "$@"\n'
    )
    stand_in.chmod(0o755)
    me = SshMachine("m", "127.0.0.1", Ssh(user="me", port=server.port), server.state)
    assert me.run(["id", "-un"]).stdout == "by sudo\nme\n"


def test_another_host_key_is_refused_until_the_advice_is_followed(server: Server, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    kind, key, _ = (tmp_path / "other.pub").read_text().split(maxsplit=2)
    known = tmp_path / "known hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
    ssh = Ssh(port=server.port, user=sshd.user(), identity=server.state / "id_ed25519", known_hosts=known)
    with pytest.raises(HostKeyChanged) as caught:
        SshMachine("m", "127.0.0.1", ssh, tmp_path).run(["true"])
    advice = caught.value.fix.partition(": ")[2]
    subprocess.run(advice, shell=True, check=True, capture_output=True)  # noqa: S602 - as a person follows it
    assert SshMachine("m", "127.0.0.1", ssh, tmp_path).run(["echo", "in"]).stdout == "in\n"


USERS_OWN = """
Host 192.0.2.7
  HostName 127.0.0.1
  ProxyJump bastion
  ForwardAgent yes
  ForwardX11 yes
  PermitLocalCommand yes
  LocalCommand touch "{made}"
  LocalForward 127.0.0.1:{spare} 127.0.0.1:22
  RemoteCommand echo not what was asked for
  RequestTTY force
  SessionType none
  SetEnv SURPRISE=1
  User somebody
  Port 1
Host bastion
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile "{key}"
  UserKnownHostsFile "{folder}/accepted"
  StrictHostKeyChecking accept-new
  RequestTTY force
  RemoteCommand false
"""


def test_of_the_users_own_configuration_only_the_way_to_a_machine_is_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias and a jump host work; what would change a command, or this host, is left out."""
    own, key = tmp_path / "config", server.state / "id_ed25519"
    values = {"made": tmp_path / "made", "spare": sshd.free_port(), "port": server.port, "key": key}
    own.write_text(USERS_OWN.format(folder=tmp_path, user=sshd.user(), **values))
    ssh = subprocess.run(["which", "ssh"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "bin").mkdir()
    (stand_in := tmp_path / "bin" / "ssh").write_text(  # OpenSSH takes the home folder from passwd, not from HOME
        f'#!/bin/sh\n[ "$1" = -G ] && set -- -F "{own}" "$@"\nexec {ssh} "$@"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    state = tmp_path / "with spaces"
    state.mkdir()
    reached = SshMachine("m", "192.0.2.7", Ssh(port=server.port, user=sshd.user(), identity=key), state)
    assert reached.run(["sh", "-c", "echo asked; env; tty"], check=False).stdout.startswith("asked\n")
    assert not reached.run(["sh", "-c", "env | grep -E 'SURPRISE|SSH_AUTH_SOCK|SSH_TTY'"], check=False).stdout
    assert (tmp_path / "accepted").exists()
    assert not (tmp_path / "made").exists()
    shown = subprocess.run([ssh, "-G", *reached.command()[1:]], capture_output=True, text=True, check=True).stdout
    quiet = {"forwardagent no", "requesttty false", "permitlocalcommand no", "clearallforwardings yes"}
    assert quiet <= set(shown.splitlines())
    assert (
        "requesttty true"
        in subprocess.run([ssh, "-G", *reached.terminal()[1:]], capture_output=True, text=True, check=True).stdout
    )


# `run` and `shell` are for reading, on the machines of a dry run as well: what is called so, and where.
READS = {
    "clusters/kubectl.py": {"[*self.command, *arguments]"},  # Kubectl.read
    "clusters/kubeadm/install.py": {
        "OLDER",
        """["test", "-x", bundled.target]""",
        """["test", "-e", f"{MARKS}.done"]""",
        """'[ -e "$1" ] || [ -e "$1.absent" ] && echo yes || true'""",
    },
    "clusters/kubeadm/remove.py": {"LEFT"},
    "clusters/kubeadm/upgrade.py": {
        "LIST",
        """["test", "-x", target]""",
        """["test", "-x", former]""",
        """["test", "-x", program(chosen.version)]""",
        """["readlink", "/usr/local/bin/kubelet"]""",
    },
    "machines/facts.py": {"READ"},
    "machines/machine.py": {"argv", """["sh", "-c", script, "sh", *arguments]""", """["sha256sum", path]"""},
}


def test_only_commands_that_read_are_given_to_run_and_shell() -> None:
    """A new one belongs here if it changes nothing, and else into `change` or `change_shell`."""
    root = Path(pl.__file__).parent
    found: dict[str, set[str]] = {}
    for path in sorted([*root.glob("clusters/*.py"), *root.glob("clusters/kubeadm/*.py"), *root.glob("machines/*.py")]):
        source = path.read_text()
        for call in ast.walk(ast.parse(source)):
            match call:
                case ast.Call(func=ast.Attribute(value=on, attr="run" | "shell"), args=[first, *_]):
                    if ast.unparse(on) != "subprocess":
                        words = ast.get_source_segment(source, first) or ""
                        found.setdefault(str(path.relative_to(root)), set()).add(words)
    assert found == READS
