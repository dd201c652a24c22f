"""A small lab of its own: what it refuses, what a machine of it can and cannot do, and that nothing of it is left."""

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import platformlib as pl
from platformlib.clusters import driver
from platformlib.errors import AuthenticationFailed, HostKeyChanged, NodeUnreachable, PreflightFailed
from platformlib.lab import Lab, cgroups
from platformlib.lab.network import links, namespaces
from platformlib.lab.shell import inside, sh
from platformlib.machines import Machine, connect
from platformlib.paths import state_dir
from platformlib.settings import Settings
from platformlib.settings.models import Ssh

ADDRESS = "192.168.61.11"


def small(**lab: Any) -> Settings:
    """One machine in a subnet of its own."""
    node = {"name": "small", "address": ADDRESS, "role": "control-plane"}
    cluster = {"distribution": "kubeadm", "nodes": [node], "network": {"nodes": "192.168.61.0/24"}}
    machine = {"memory": "512Mi", "cpus": 1.0}
    return pl.load({"name": "smalllab", "cluster": cluster, "lab": {"machine": machine} | lab})


def traces() -> dict[str, list[str]]:
    """All that a lab can leave on its host, of this lab alone: others may come and go."""
    tag = Lab(small()).plan.group.removeprefix("platformlib-")
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return {
        "links": [link for link in links() if tag in link],
        "namespaces": [name for name in namespaces() if tag in name],
        "routes": [route for route in sh("ip", "route").splitlines() if "192.168.61." in route],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if "smalllab" in line],
        "groups": [str(path) for tree in cgroups.hierarchies() for path in tree.glob(f"platformlib-{tag}*")],
        "rules": [line for line in rules.splitlines() if "192.168.61." in line],
        "processes": [
            str(it.pid) for it in psutil.process_iter(["cmdline"]) if "smalllab" in " ".join(it.info["cmdline"] or ())
        ],
        "disks": [str(path) for path in (state_dir("smalllab") / "lab").glob("*")],
    }


KINDS = ("links", "namespaces", "routes", "mounts", "groups", "rules", "processes", "disks")
NOTHING: dict[str, list[str]] = {kind: [] for kind in KINDS}


@pytest.fixture(scope="module")
def host() -> dict[str, str]:
    """Settings of the host that stay as they are, while a lab is up and after it."""
    Lab(small()).down()
    return settings_of_host()


def settings_of_host() -> dict[str, str]:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return {"forwarding": forwarding, "default route": sh("ip", "route", "show", "default")}


@pytest.fixture(scope="module")
def up(host: dict[str, str]) -> Iterator[Lab]:
    made = Lab(small())
    made.up()
    yield made
    made.down()


@pytest.fixture
def machine(up: Lab) -> Machine:
    settings = up.plan.settings
    return connect(settings.cluster.nodes[0], settings.cluster.ssh, state=up.plan.folder.parent)


def test_a_machine_is_a_systemd_machine_of_its_own(machine: Machine) -> None:
    assert machine.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.strip() == "running"
    assert machine.run(["hostname"]).stdout.strip() == "small"


def test_a_machine_has_the_limits_that_the_parameters_give(up: Lab) -> None:
    group = up.plan.machines[0].group
    if cgroups.version() == 1:
        assert (cgroups.ROOT / "memory" / group / "memory.limit_in_bytes").read_text().strip() == str(512 * 2**20)
        assert (cgroups.ROOT / "cpu" / group / "cpu.cfs_quota_us").read_text().strip() == "100000"


def test_a_second_up_changes_nothing(up: Lab, machine: Machine) -> None:
    boot = machine.read("/proc/sys/kernel/random/boot_id"), machine.run(["cat", "/proc/1/stat"]).stdout.split()[21]
    up.up()
    assert boot == (
        machine.read("/proc/sys/kernel/random/boot_id"),
        machine.run(["cat", "/proc/1/stat"]).stdout.split()[21],
    )


def test_there_is_no_way_out_and_every_wish_for_one_is_counted(up: Lab, machine: Machine) -> None:
    assert up.refused_lookups() == []
    assert not machine.run(["getent", "hosts", "outside.invalid"], check=False).ok
    assert {said.split()[0] for said in up.refused_lookups()} == {"outside.invalid"}
    assert sh(*inside(up.plan.hub, ["cat", "/proc/sys/net/ipv4/ip_forward"])).strip() == "0"


# What runc does to a container for a moment; a process that is frozen then does not receive the signal that ends it.
FREEZE = """set -e
group=/sys/fs/cgroup/freezer/frozen; mkdir $group
sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > $group/cgroup.procs; echo FROZEN > $group/freezer.state
"""


def test_a_machine_that_lost_its_power_comes_back_with_its_disk(up: Lab, machine: Machine) -> None:
    machine.write("/etc/kept", "still here")
    machine.run(["sync"])
    if cgroups.version() == 1:
        machine.shell(FREEZE)
    up.cut_power("small")
    assert list(up.status().query("name == 'small'")["state"]) == ["stopped"]
    up.up()
    assert machine.read("/etc/kept") == b"still here"


def test_a_wrong_key_is_refused_with_the_fix(up: Lab, tmp_path: Path) -> None:
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    wrong = Ssh(identity=tmp_path / "other")
    with pytest.raises(
        AuthenticationFailed, match=r"small: root@192.168.61.11:22 refused the key (.|\n)*authorized_keys"
    ):
        connect(up.plan.settings.cluster.nodes[0], wrong, state=tmp_path).run(["true"])


def test_a_changed_host_key_is_refused_with_the_fix(up: Lab, tmp_path: Path) -> None:
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    (tmp_path / "known_hosts").write_text(f"{ADDRESS} {kind} {key}\n")
    trusting = Ssh(identity=up.plan.folder.parent / "id_ed25519")
    with pytest.raises(HostKeyChanged, match=r"small: another host key (.|\n)*ssh-keygen -f"):
        connect(up.plan.settings.cluster.nodes[0], trusting, state=tmp_path).run(["true"])


def test_a_node_that_does_not_answer_is_named(up: Lab) -> None:
    raw = up.plan.settings.model_dump(mode="json")
    raw["cluster"]["nodes"].append({"name": "ghost", "address": "192.168.61.99", "role": "worker", "connection": "ssh"})
    with pytest.raises(NodeUnreachable, match="ghost: no SSH connection"):
        driver(pl.load(raw)).preflight()


def test_a_full_disk_is_found_before_anything_is_changed(up: Lab, machine: Machine) -> None:
    machine.run(["mount", "-t", "tmpfs", "-o", "size=64m", "full", "/var/lib"])
    with pytest.raises(PreflightFailed, match=r"small: disk is 0.1 GiB free in /var/lib, expected at least 4 GiB"):
        driver(up.plan.settings).install()
    machine.run(["umount", "/var/lib"])
    assert machine.read("/etc/systemd/system/kubelet.service") is None


def test_down_leaves_nothing_of_it(up: Lab, host: dict[str, str]) -> None:
    assert all(traces()[kind] for kind in KINDS if kind != "rules")
    assert settings_of_host() == host
    up.down()
    up.down()  # what is gone already is no error
    assert traces() == NOTHING
    assert settings_of_host() == host


class Page(http.server.BaseHTTPRequestHandler):
    """A page on this host's loopback, which the machine sees as 10.0.2.2 through the way out."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"outside")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_internet_true_opens_a_way_out_and_touches_nothing_of_the_host(host: dict[str, str]) -> None:
    made = Lab(small(internet=True))
    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        made.up()
        node, state = made.plan.settings.cluster.nodes[0], made.plan.folder.parent
        url = f"http://10.0.2.2:{server.server_port}/"
        page = connect(node, Ssh(), state=state).run(["curl", "-s", "--max-time", "10", url]).stdout
        assert page == "outside"
        assert (traces()["rules"], settings_of_host()) == ([], host)
    finally:
        server.shutdown()
        server.server_close()
        made.down()
    assert traces() == NOTHING
    assert settings_of_host() == host
