"""A small lab of its own: what it refuses, what a machine of it can and cannot do, and that nothing of it is left."""

import http.server
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.clusters import driver
from platformlib.errors import AuthenticationFailed, HostKeyChanged, LabError, NodeUnreachable, PreflightFailed
from platformlib.lab import Lab, cgroups, remove
from platformlib.lab.machine import forget
from platformlib.lab.network import links, network_down
from platformlib.lab.plan import MARK
from platformlib.lab.shell import inside, sh
from platformlib.machines import Machine, connect
from platformlib.machines.ssh import hang_up
from platformlib.settings import Settings
from platformlib.settings.models import Ssh
from tests.lab.conftest import ROOT
from tests.lab.host_state import Snapshot, differences, processes, snapshot

NAME = "smalllab"
ADDRESS = "192.168.61.11"
SMALL = {"name": "small", "address": ADDRESS, "role": "control-plane"}
SECOND = {"name": "second", "address": "192.168.61.12"}


def small(*more: dict[str, Any], name: str = NAME, **lab: Any) -> Settings:
    """One machine, or some more, in a subnet of its own."""
    cluster = {"distribution": "kubeadm", "nodes": [SMALL, *more], "network": {"nodes": "192.168.61.0/24"}}
    machine = {"memory": "512Mi", "cpus": 1.0}
    return pl.load({"name": name, "cluster": cluster, "lab": {"machine": machine} | lab})


@pytest.fixture(scope="module")
def host() -> Snapshot:
    """The host without this lab."""
    remove(NAME)
    return snapshot()


@pytest.fixture(scope="module")
def up(host: Snapshot) -> Iterator[Lab]:
    made = Lab(small())
    made.up(print)
    yield made
    made.down()


def login(lab: Lab, name: str = "small") -> Machine:
    node = next(node for node in lab.settings.cluster.nodes if node.name == name)
    return connect(node, lab.settings.cluster.ssh, state=lab.plan.state)


@pytest.fixture
def machine(up: Lab) -> Machine:
    return login(up)


# Capabilities and their bits, from the kernel's capability.h.
WITHHELD = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_TIME": 25, "MAC_OVERRIDE": 32, "MAC_ADMIN": 33, "BPF": 39}
# What is tried on a machine, as root there.
REFUSED = {
    "the clock": "date -s '2001-01-01'",
    "a disk of the host": "mknod /root/disk b {disk}; head -c 1 /root/disk",
    "the host's memory": "mknod /root/mem c 1 1; head -c 1 /root/mem",
    "an immutable file": "touch /root/kept; chattr +i /root/kept",
}


class TestMachine:
    def test_it_is_a_systemd_machine_of_its_own(self, machine: Machine) -> None:
        state = machine.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.strip()
        assert state == "running", machine.run(["systemctl", "--failed"], check=False).stdout
        assert machine.run(["hostname"]).stdout.strip() == "small"

    def test_it_has_the_limits_that_the_parameters_give(self, up: Lab, machine: Machine) -> None:
        group = up.plan.machines[0].group
        if cgroups.version() == 1:
            assert (cgroups.ROOT / "memory" / group / "memory.limit_in_bytes").read_text().strip() == str(512 * 2**20)
            assert (cgroups.ROOT / "cpu" / group / "cpu.cfs_quota_us").read_text().strip() == "100000"
            inner = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            machine.shell(f"echo 8G > {inner}")  # root of a machine may, and it changes nothing
            assert (cgroups.ROOT / "memory" / group / "memory.limit_in_bytes").read_text().strip() == str(512 * 2**20)
            machine.shell(f"echo 512M > {inner}")

    @pytest.mark.proves("a machine of a lab changes no kernel setting of its host", room="lab")
    def test_kernel_settings_are_its_own_or_read_only(self, machine: Machine) -> None:
        paths = [Path("/proc/sys", key) for key in ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory")]
        before = [path.read_text() for path in paths]
        for path in paths:
            machine.shell(f"echo 7 > {path}")
            assert machine.shell(f"cat {path}").strip() == "7"
        assert [path.read_text() for path in paths] == before
        assert not machine.run(["sh", "-c", "echo 1 > /proc/sys/kernel/sysrq"], check=False).ok
        machine.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")

    def test_it_has_no_capability_over_modules_raw_ports_or_policies(self, machine: Machine) -> None:
        held = int(machine.shell("awk '/^CapBnd/ {print $2}' /proc/1/status"), 16)
        assert [name for name, bit in WITHHELD.items() if held & 1 << bit] == []

    @pytest.mark.parametrize("what", REFUSED)
    def test_root_of_a_machine_does_not_reach(self, machine: Machine, what: str) -> None:
        device = Path("/").stat().st_dev
        script = REFUSED[what].format(disk=f"{os.major(device)} {os.minor(device)}")
        done = machine.run(["sh", "-c", script], check=False)
        assert (done.ok, "not permitted" in done.stderr) == (False, True), done

    def test_a_link_on_the_disk_does_not_lead_the_host_astray(self, up: Lab, machine: Machine, tmp_path: Path) -> None:
        for path in ("/etc/hostname", "/etc/resolv.conf", "/root/.ssh/authorized_keys.new"):
            machine.shell(f'rm -f {path}; ln -s "$1" {path}', str(tmp_path / "written"))
        up.cut_power("small")
        up.up()
        assert list(tmp_path.iterdir()) == []
        machine.shell("rm -f /etc/hostname /etc/resolv.conf; echo small > /etc/hostname")
        machine.write("/etc/resolv.conf", f"nameserver {up.plan.gateway}\n")

    def test_a_second_up_changes_nothing(self, up: Lab, machine: Machine) -> None:
        def state() -> tuple[object, ...]:
            started = machine.run(["cat", "/proc/1/stat"]).stdout.split()[21]
            return started, [cgroups.members(up.plan.service_group(name)) for name in ("names", "registry")]

        before = state()
        up.up()
        assert state() == before

    def test_there_is_no_way_out_and_every_wish_for_one_is_counted(self, up: Lab, machine: Machine) -> None:
        assert up.refused_lookups() == []
        assert not machine.run(["getent", "hosts", "outside.invalid"], check=False).ok
        assert {said.split()[0] for said in up.refused_lookups()} == {"outside.invalid"}
        assert sh(*inside(up.plan.hub, ["cat", "/proc/sys/net/ipv4/ip_forward"])).strip() == "0"

    # What runc does to a container for a moment; a process that is frozen then does not receive the signal to end it.
    FREEZE = """set -e
    group=/sys/fs/cgroup/freezer/frozen; mkdir $group
    sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > $group/cgroup.procs; echo FROZEN > $group/freezer.state
    """

    def test_one_that_lost_its_power_comes_back_with_its_disk(self, up: Lab, machine: Machine) -> None:
        machine.write("/etc/kept", "still here")
        machine.run(["sync"])
        if cgroups.version() == 1:
            machine.shell(self.FREEZE)
        up.cut_power("small")
        assert list(up.status().query("name == 'small'")["state"]) == ["stopped"]
        up.up()
        assert machine.read("/etc/kept") == b"still here"

    def test_one_comes_back_with_its_disk_after_the_host_was_rebooted(self, up: Lab, machine: Machine) -> None:
        machine.write("/etc/kept", "after a reboot")
        machine.run(["sync"])
        hang_up()
        for group in cgroups.groups(up.plan.tag):
            cgroups.kill(group)
        network_down(up.plan.tag)
        forget(up.plan.tag, up.plan.folder)  # a reboot empties /run
        sh("umount", str(up.plan.machines[0].folder / "root"))
        Lab(small()).up()
        assert machine.read("/etc/kept") == b"after a reboot"


class TestLogin:
    def test_a_wrong_key_is_refused_with_the_fix(self, up: Lab, tmp_path: Path) -> None:
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
        wrong = Ssh(identity=tmp_path / "other")
        with pytest.raises(
            AuthenticationFailed, match=r"small: root@192.168.61.11:22 refused the key (.|\n)*authorized_keys"
        ):
            connect(up.settings.cluster.nodes[0], wrong, state=tmp_path).run(["true"])

    def test_a_changed_host_key_is_refused_with_the_fix(self, up: Lab, tmp_path: Path) -> None:
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
        kind, key, *_ = (tmp_path / "other.pub").read_text().split()
        (tmp_path / "known_hosts").write_text(f"{ADDRESS} {kind} {key}\n")
        trusting = Ssh(identity=up.plan.state / "id_ed25519")
        with pytest.raises(HostKeyChanged, match=r"small: another host key (.|\n)*ssh-keygen -f"):
            connect(up.settings.cluster.nodes[0], trusting, state=tmp_path).run(["true"])

    def test_a_node_that_does_not_answer_is_named(self, up: Lab) -> None:
        raw = up.settings.model_dump(mode="json")
        raw["cluster"]["nodes"].append({"name": "ghost", "address": "192.168.61.99", "role": "worker"})
        with pytest.raises(NodeUnreachable, match="ghost: no SSH connection"):
            driver(pl.load(raw)).preflight()

    def test_a_full_disk_is_found_before_anything_is_changed(self, up: Lab, machine: Machine) -> None:
        machine.run(["mount", "-t", "tmpfs", "-o", "size=64m", "full", "/var/lib"])
        with pytest.raises(PreflightFailed, match=r"small: disk is 0.1 GiB free in /var/lib, expected at least 4 GiB"):
            driver(up.settings).install()
        machine.run(["umount", "/var/lib"])
        assert machine.read("/etc/systemd/system/kubelet.service") is None


class TestBeside:
    """Other labs, other state folders, edits of the file."""

    def test_a_lab_of_the_same_name_in_another_state_folder_lives_beside(
        self, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setenv("PLATFORMLIB_STATE", str(tmp_path))
            other, said = Lab(small()), list[str]()
            try:
                other.up(said.append)
                assert login(other).run(["hostname"]).stdout.strip() == "small"
                assert str(other.settings.cluster.nodes[0].address) != ADDRESS
                assert any("instead of 192.168.61.0/24: this host already routes 192.168.61.0/24" in it for it in said)
            finally:
                other.down()
            assert list(tmp_path.iterdir()) == []
        assert machine.run(["hostname"]).stdout.strip() == "small"

    def test_machines_are_added_and_removed_by_name(self, machine: Machine) -> None:
        started = machine.run(["cat", "/proc/1/stat"]).stdout.split()[21]
        more = Lab(small(SECOND))
        more.up()
        assert login(more, "second").run(["getent", "hosts", "small"]).stdout.split()[0] == ADDRESS
        assert machine.run(["getent", "hosts", "second"]).stdout.split()[0] == SECOND["address"]
        said: list[str] = []
        less = Lab(small())
        less.up(said.append)
        assert "second: not in the file any more; it stays until `platformlib lab down`" in said
        assert list(less.status().query("name == 'second'")["state"]) == ["running"]
        with pytest.raises(LabError, match=r"second was made with 192\.168\.61\.12; the file says 192\.168\.61\.13"):
            Lab(small(SECOND | {"address": "192.168.61.13"})).up()
        assert machine.run(["cat", "/proc/1/stat"]).stdout.split()[21] == started

    @pytest.mark.proves("lab down removes what was made, whatever the file says by then", room="lab")
    def test_down_of_an_edited_file_leaves_nothing(self, host: Snapshot, up: Lab) -> None:
        assert {"small", "second"} <= set(up.status()["name"]) | {it.node.name for it in Lab(small()).plan.gone}
        moved = small().model_dump(mode="json")
        moved["cluster"]["nodes"] = [{"name": "else", "address": "10.5.0.9", "role": "control-plane"}]
        moved["cluster"]["network"]["nodes"] = "10.5.0.0/16"
        Lab(pl.load(moved)).down()
        Lab(pl.load(moved)).down()  # what is gone already is no error
        assert differences(host, snapshot(), Lab(small())) == ""
        assert processes(NAME, patience=40) == []
        assert not up.plan.state.exists()


class TestFaults:
    @pytest.fixture(autouse=True)
    def clean(self, host: Snapshot) -> Iterator[None]:  # noqa: ARG002 - taken before anything is made
        remove(NAME)
        yield
        remove(NAME)

    def test_a_dead_registry_ends_up_with_its_own_words(self) -> None:
        class Broken(Bundle):
            def registry_config(self, address: str) -> str:  # noqa: ARG002
                return "version: nonsense\n"

        with pytest.raises(LabError, match=r"(?s)service `registry` ended.*registry serve"):
            Lab(small(), Broken()).up()

    def test_two_ups_at_once_make_one_lab(self, tmp_path: Path) -> None:
        file = written(tmp_path)
        argv = ["platformlib", "lab", "up", "-f", str(file)]
        both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
        said = [process.communicate(timeout=120)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        assert sum("small: starting" in text for text in said) == 1
        assert sum("waiting for it" in text for text in said) == 1

    @pytest.mark.timeout(1800)
    @pytest.mark.proves("lab up and lab down, killed at any moment, can be repeated and leave nothing", room="lab")
    @pytest.mark.parametrize("times", [4, pytest.param(50, marks=pytest.mark.full)])
    def test_killed_at_any_moment_nothing_is_left(self, host: Snapshot, tmp_path: Path, seed: int, times: int) -> None:
        file, draw = written(tmp_path), random.Random(seed)
        usual = {"up": timed("up", file), "down": timed("down", file)}
        for number in range(times):
            verb = "down" if number % 2 else "up"
            if verb == "down":
                run("up", file)
            moment = draw.uniform(0, usual[verb])
            kill("up" if verb == "up" else "down", file, moment)
            if draw.random() < 0.5:
                assert run("up", file) == 0, f"up after {verb} was killed at {moment:.2f} s"
            assert run("down", file) == 0, f"down after {verb} was killed at {moment:.2f} s"
            assert differences(host, snapshot(), Lab(small())) == "", f"{verb} was killed at {moment:.2f} s"
            assert not Lab(small()).plan.state.exists()
        assert processes(NAME, patience=40) == []


def written(folder: Path) -> Path:
    file = folder / f"{NAME}.yaml"
    file.write_text(yaml.safe_dump({"platform": small().model_dump(mode="json", exclude_none=True)}))
    return file


def run(verb: str, file: Path) -> int:
    argv = ["platformlib", "lab", verb, "-f", str(file)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr)
    return done.returncode


def timed(verb: str, file: Path) -> float:
    began = time.monotonic()
    assert run(verb, file) == 0
    return time.monotonic() - began


def kill(verb: str, file: Path, moment: float) -> None:
    """Start the command, and end its process at a moment, as the kernel does when memory is short."""
    process = subprocess.Popen(["platformlib", "lab", verb, "-f", str(file)], cwd=ROOT, stdout=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()


class Page(http.server.BaseHTTPRequestHandler):
    """A page on this host."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"outside")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def own_address() -> str:
    """An address of this host that is not its loopback."""
    found = [
        it.address for name, all_ in psutil.net_if_addrs().items() for it in all_ if it.family == 2 and name != "lo"
    ]
    return next(address for address in found if not address.startswith("192.168.61."))


@pytest.mark.proves("internet: true opens a way out that does not lead to the host's loopback", room="lab")
def test_internet_true_opens_a_way_out_and_touches_nothing_of_the_host(host: Snapshot) -> None:
    made = Lab(small(internet=True))
    servers = [http.server.HTTPServer((address, 0), Page) for address in ("127.0.0.1", own_address())]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        made.up()

        def fetch(address: str, port: int) -> str:
            argv = ["curl", "-s", "--max-time", "5", f"http://{address}:{port}/"]
            return login(made).run(argv, check=False).stdout

        assert fetch(own_address(), servers[1].server_port) == "outside"
        assert fetch("10.0.2.2", servers[0].server_port) == ""
        during = snapshot()
        assert (during["nft"], during["rules"]) == (host["nft"], host["rules"])
        assert made.plan.link in links()
        assert (made.plan.state / MARK).exists()
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        made.down()
    assert differences(host, snapshot(), Lab(small())) == ""
