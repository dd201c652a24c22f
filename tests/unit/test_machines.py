"""Machines: files are written whole or not at all, and a failure names the machine, the cause and the fix."""

import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platformlib.errors import AuthenticationFailed, CommandFailed, HostKeyChanged, NodeError, NodeUnreachable
from platformlib.machines import Machine, connect, each
from platformlib.machines.facts import facts
from platformlib.machines.ssh import SshMachine
from platformlib.settings import Node
from platformlib.settings.models import Ssh

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


def test_a_missing_file_is_none_and_not_an_error(tmp_path: Path) -> None:
    assert HERE.read(str(tmp_path / "none")) is None


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


def test_nobody_listens(tmp_path: Path) -> None:
    node = Node(name="gone", address=IPv4Address("127.0.0.1"))
    with pytest.raises(NodeUnreachable, match=r"gone: no SSH connection: .*\n  fix: is it on, and does sshd listen"):
        connect(node, Ssh(port=1), state=tmp_path).run(["true"])


SAID = [
    ("@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@", HostKeyChanged, "ssh-keygen -f"),
    ("root@10.0.0.1: Permission denied (publickey).", AuthenticationFailed, "authorized_keys"),
    ("ssh: connect to host 10.0.0.1 port 22: No route to host", NodeUnreachable, "is it on"),
    ("", NodeUnreachable, "is it on"),
]


@pytest.mark.parametrize(("said", "kind", "fix"), SAID)
def test_what_ssh_says_becomes_an_error_with_a_fix(tmp_path: Path, said: str, kind: type[NodeError], fix: str) -> None:
    error = SshMachine("m", "10.0.0.1", Ssh(), tmp_path).failure(said)
    assert type(error) is kind
    assert fix in error.fix


def test_the_command_line_of_ssh_is_understood_by_ssh(tmp_path: Path) -> None:
    argv = SshMachine("m", "10.0.0.1", Ssh(user="me", port=2222), tmp_path).command()
    shown = subprocess.run([argv[0], "-G", *argv[1:]], capture_output=True, text=True, check=True).stdout
    assert {"user me", "port 2222", "hostname 10.0.0.1", "batchmode yes"} <= set(shown.splitlines())
