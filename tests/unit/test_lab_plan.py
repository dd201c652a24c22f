"""What a lab is planned to be, what it replaces in a parameters file, and what it asks of its host: no root needed."""

import json
import threading
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import platformlib as pl
from platformlib.errors import LabError
from platformlib.lab import Lab, cgroups, host, parameters, require_machines, resolve
from platformlib.lab import plan as plans
from platformlib.lab.machine import mounts, nspawn
from platformlib.lab.plan import Made, Plan, Record, owned_by_others, plan, read
from platformlib.lab.services import refused_lookups
from platformlib.paths import state_root
from platformlib.settings import Settings

ROOT = Path(__file__).parents[2]
HOMELAB = ROOT / "parameters" / "homelab.yaml"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path))
    return tmp_path


def settings(
    *addresses: str, network: str = "192.168.77.0/24", name: str = "here", lab: bool = True, **cluster: Any
) -> Settings:
    nodes = [
        {"name": f"m{number}", "address": address, "role": "worker" if number else "control-plane"}
        for number, address in enumerate(addresses or ("192.168.77.2", "192.168.77.3"))
    ]
    whole = {"distribution": "kubeadm", "nodes": nodes, "network": {"nodes": network}} | cluster
    return pl.load({"name": name, "cluster": whole} | ({"lab": {"machine": {"memory": "64Mi"}}} if lab else {}))


def record(of: Settings, network: str) -> Record:
    nodes = parameters.for_lab(of, IPv4Network(network)).cluster.nodes
    made = Record(
        of.name, plans.new_tag(of.name), network, tuple(Made(n.name, str(n.address), "1Gi", 1) for n in nodes)
    )
    made.write()
    return made


class TestNames:
    def test_links_fit_the_kernel_and_differ_between_labs_and_machines(self) -> None:
        made = [plan(settings(name=name)) for name in ("a", "b" * 63)]
        links = [link for one in made for link in (one.link, *(machine.link for machine in one.machines))]
        assert len(set(links)) == len(links)
        assert all(len(link) <= 15 for link in links)

    def test_a_machine_keeps_its_names_wherever_it_stands_in_the_file(self) -> None:
        whole = settings().model_dump(mode="json")
        whole["cluster"]["nodes"] = [{"name": "new", "address": "192.168.77.9"}, *reversed(whole["cluster"]["nodes"])]
        before, after = (
            {machine.node.name: machine for machine in plan(it).machines} for it in (settings(), pl.load(whole))
        )
        for name, machine in before.items():
            kept = (machine.link, machine.group, machine.folder, machine.namespace)
            assert kept == (after[name].link, after[name].group, after[name].folder, after[name].namespace)

    def test_a_lab_of_the_same_name_in_another_state_folder_shares_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = plan(settings())
        monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path / "other"))
        second = plan(settings())
        ours, theirs = (
            {it.link, it.hub, it.folder, *((m.group, m.namespace) for m in it.machines)} for it in (first, second)
        )
        assert not ours & theirs

    @pytest.mark.parametrize("address", ["192.168.77.1", "192.168.77.254"])
    def test_an_address_that_the_lab_needs_is_refused(self, address: str) -> None:
        with pytest.raises(LabError, match=f"m0 has the address {address}, which the lab needs"):
            plan(settings(address))

    def test_the_record_keeps_machines_that_left_the_file(self) -> None:
        made = record(settings(), "192.168.77.0/24")
        less = plan(settings("192.168.77.2"), read("here"))
        assert [machine.node.name for machine in less.machines] == ["m0"]
        assert [(machine.node.name, str(machine.node.address)) for machine in less.gone] == [("m1", "192.168.77.3")]
        assert less.tag == made.tag

    def test_a_damaged_record_says_how_to_remove_the_lab(self) -> None:
        record(settings(), "192.168.77.0/24").path.write_text("{")
        with pytest.raises(LabError, match="platformlib lab down --name here"):
            read("here")


class TestParameters:
    def test_a_file_of_real_machines_makes_a_lab_of_another_name_with_nothing_of_the_real_platform(self) -> None:
        real = pl.load(HOMELAB)
        lab = parameters.for_lab(real)
        assert (lab.name, lab.lab is not None) == ("lab-homelab", True)
        assert [(node.name, node.role) for node in lab.cluster.nodes] == [
            (node.name, node.role) for node in real.cluster.nodes
        ]
        assert (lab.cluster.ssh.user, lab.cluster.ssh.identity, lab.cluster.kubeconfig) == ("root", None, None)
        assert str(lab.registry.mirror) == "http://192.168.1.1:5000/"
        assert plan(lab).state != state_root() / "homelab"

    def test_what_is_replaced_is_said(self) -> None:
        node = {"name": "m0", "address": "192.168.77.2", "role": "control-plane", "connection": "local"}
        ssh = {"user": "admin", "identity": "/keys/real"}
        real = settings(lab=False, nodes=[node], ssh=ssh, kubeconfig="/real/config", context="real")
        lab = parameters.for_lab(real, IPv4Network("10.9.8.0/24"))
        assert (lab.cluster.nodes[0].connection, lab.cluster.context) == ("ssh", None)
        said = "\n".join(parameters.differences(real, lab))
        for words in (
            "name: lab-here instead of here",
            "10.9.8.0/24 instead of 192.168.77.0/24",
            "connection: ssh instead of local, for m0",
            "instead of admin",
            "kubeconfig: the lab's own instead of /real/config",
            "registry.mirror: http://10.9.8.1:5000/ instead of upstream",
        ):
            assert words in said

    def test_a_lab_s_own_file_is_left_as_it_is(self) -> None:
        lab = pl.load(ROOT / "parameters" / "lab.yaml")
        assert parameters.for_lab(lab) == lab
        assert list(parameters.differences(lab, lab)) == []

    def test_the_written_file_is_the_lab(self, state: Path) -> None:
        real = pl.load(HOMELAB)
        lab = parameters.for_lab(real, IPv4Network("10.9.8.0/24"))
        (state / lab.name).mkdir()
        assert pl.load(parameters.write(real, lab)) == lab

    @given(st.integers(1, 254), st.sampled_from(["10.1.2.0/24", "172.20.7.0/24", "192.168.77.0/24"]))
    def test_every_address_of_the_range_moves_and_no_other(self, last: int, to: str) -> None:
        old, new = IPv4Network("192.168.77.0/24"), IPv4Network(to)
        document = {
            "url": f"http://192.168.77.{last}:5000/x",
            "list": [f"192.168.77.{last}", "192.168.77.0/24", "192.168.0.0/16", "8.8.8.8", "1192.168.77.3", "v1.35.4"],
            "number": 5,
        }
        address = str(new[last])
        assert parameters.moved(document, old, new) == {
            "url": f"http://{address}:5000/x",
            "list": [address, to, "192.168.0.0/16", "8.8.8.8", "1192.168.77.3", "v1.35.4"],
            "number": 5,
        }

    def test_machines_alone_make_a_lab(self) -> None:
        with pytest.raises(LabError, match="names no machines"):
            parameters.for_lab(
                pl.load({"name": "x", "cluster": {"distribution": "existing", "kubeconfig": "/k", "context": "c"}})
            )


class TestWhoseMachines:
    """Commands work on a lab's machines, or on real ones; never on one kind for the other."""

    def test_a_lab_that_was_moved_is_reached_where_it_is(self) -> None:
        assert resolve(settings()) == settings()
        record(settings(), "10.9.8.0/24")
        found = resolve(settings())
        assert [str(node.address) for node in found.cluster.nodes] == ["10.9.8.2", "10.9.8.3"]
        assert resolve(found) == found

    def test_real_machines_under_the_name_of_a_lab_are_refused(self) -> None:
        record(settings(), "192.168.77.0/24")
        with pytest.raises(LabError, match="here is the name of a lab on this host"):
            resolve(settings(lab=False))

    def test_a_lab_that_is_not_up_is_not_reached_for(self) -> None:
        with pytest.raises(LabError, match="the lab here is not up"):
            require_machines(settings())
        record(settings(), "192.168.77.0/24")
        require_machines(settings())

    def test_real_machines_behind_a_lab_are_not_reached_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = tmp_path / "route"
        table.write_text(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
            "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n"
            "*    0000090A 00000000 0001 0 0 0 0000FFFF 0 0 0\n"
            "pl00ff00host 004DA8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
        )
        assert parameters.ranges_of_labs(table) == [IPv4Network("192.168.77.0/24")]
        monkeypatch.setattr(parameters, "ranges_of_labs", lambda: [IPv4Network("192.168.77.0/24")])
        with pytest.raises(LabError, match=r"m0: on this host 192\.168\.77\.2 is a lab's"):
            require_machines(settings(lab=False))

    def test_a_lab_is_not_made_over_a_real_platform_s_folder(
        self, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (state / "here").mkdir()
        (state / "here" / "kubeconfig").write_text("the real one")
        monkeypatch.setattr(host, "check", lambda *_: None)
        monkeypatch.setattr(host, "routes", lambda **_: [])
        with pytest.raises(LabError, match="here is the name of a platform that is no lab"):
            Lab(settings()).check()
        assert [path.name for path in (state / "here").iterdir()] == ["kubeconfig"]
        record(settings(), "192.168.77.0/24")
        assert owned_by_others("here") == []


ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "0.0.0.0/1", "dev": "wg0"},
    {"dst": "128.0.0.0/1", "dev": "wg0"},
    {"dst": "192.168.1.0/24", "dev": "eth0"},
    {"type": "blackhole", "dst": "10.9.0.0/16", "flags": []},
    {"dst": "10.20.0.0/16", "nexthops": [{"dev": "eth0"}, {"dev": "eth1"}]},
    {"dst": "10.77.0.0/16", "dev": "wg0", "table": "99"},
    {"type": "local", "dst": "192.168.5.9", "dev": "eth0", "table": "local"},
    {"type": "broadcast", "dst": "192.168.6.255", "dev": "eth0", "table": "local"},
    {"dst": "192.168.77.0/24", "dev": "pl000000host"},
]


class TestRange:
    def test_routes_of_every_kind_are_read(self) -> None:
        found = host.routes(json.dumps(ROUTES), own="pl000000host")
        assert {str(route.network): route.via for route in found} == {
            "192.168.1.0/24": "eth0",
            "10.9.0.0/16": "blackhole",
            "10.20.0.0/16": "several links",
            "10.77.0.0/16": "wg0",
            "192.168.5.9/32": "eth0",
        }

    def test_a_free_range_is_kept_and_a_vpn_s_halves_are_no_collision(self) -> None:
        wanted = IPv4Network("192.168.77.0/24")
        assert host.choose(wanted, host.routes(json.dumps(ROUTES), own="pl000000host"), ()) == (wanted, "")

    def test_a_routed_range_is_replaced_and_the_reason_is_said(self) -> None:
        found, why = host.choose(IPv4Network("192.168.1.0/24"), host.routes(json.dumps(ROUTES)), ())
        assert (str(found), why) == ("192.168.60.0/24", "this host already routes 192.168.1.0/24 (eth0)")

    @given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 32)), max_size=8), st.integers(14, 28))
    def test_another_range_has_the_size_and_overlaps_nothing(self, blocks: list[tuple[int, int]], prefix: int) -> None:
        wanted = IPv4Network((int(IPv4Address("192.168.0.0")), prefix), strict=False)
        avoid = [IPv4Network("10.42.0.0/16"), IPv4Network("10.43.0.0/16")]
        routed = [host.Route(IPv4Network(block, strict=False), "eth0") for block in blocks]
        routed.append(host.Route(wanted, "eth1"))
        try:
            found, why = host.choose(wanted, routed, avoid)
        except LabError as error:
            assert "no range of the size" in str(error)
            return
        assert (found.prefixlen, found.is_private, why != "") == (prefix, True, True)
        assert not any(found.overlaps(network) for network in [*avoid, *(route.network for route in routed)])

    def test_the_range_of_another_lab_is_taken_though_it_is_not_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host, "routes", lambda **_: [])
        record(settings(name="other"), "192.168.77.0/24")
        assert [(str(it.network), it.via) for it in host.taken(None, "here")] == [("192.168.77.0/24", "the lab other")]
        assert host.taken(None, "other") == []


class TestHost:
    def missing(self, memory: str = "64Mi") -> list[str]:
        whole = settings().model_dump(mode="json") | {"lab": {"machine": {"memory": memory}, "internet": True}}
        return list(host.missing(pl.load(whole), state_root() / "here"))

    def test_more_memory_than_the_host_has_is_refused(self) -> None:
        assert any("2 machines of 900Ti are more than this host's" in fault for fault in self.missing("900Ti"))

    def test_missing_programs_are_named_with_their_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        told = self.missing()
        assert "no `systemd-nspawn` — apt-get install systemd-container" in told
        assert "no `slirp4netns` — apt-get install slirp4netns" in told

    def test_a_path_that_an_overlay_cannot_take_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path / "a,b"))
        assert any("a,b/here has a comma" in fault for fault in self.missing())

    def test_nothing_is_made_where_something_is_missing(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(LabError, match="nothing was made"):
            Lab(settings()).up()
        assert list(state.iterdir()) == []


class TestInotify:
    @pytest.fixture
    def inotify(self, tmp_path: Path) -> host.Inotify:
        made = host.Inotify(tmp_path / "limit", tmp_path / "kept", tmp_path / "boot")
        made.boot.write_text("first\n")
        made.limit.write_text("128\n")
        return made

    def test_the_host_s_value_comes_back(self, inotify: host.Inotify) -> None:
        assert inotify.raise_limit()
        assert inotify.limit.read_text() == "1024"
        assert not inotify.raise_limit()  # a second lab
        inotify.give_back()
        assert (inotify.limit.read_text(), inotify.kept.exists()) == ("128", False)

    def test_a_record_of_an_earlier_boot_restores_nothing(self, inotify: host.Inotify) -> None:
        inotify.raise_limit()
        inotify.boot.write_text("second\n")
        inotify.give_back()
        assert (inotify.limit.read_text(), inotify.kept.exists()) == ("1024", False)

    def test_a_value_that_was_set_since_stays(self, inotify: host.Inotify) -> None:
        inotify.raise_limit()
        inotify.limit.write_text("8192")
        inotify.give_back()
        assert inotify.limit.read_text() == "8192"

    def test_a_large_limit_is_left_alone(self, inotify: host.Inotify) -> None:
        inotify.limit.write_text("4096")
        assert not inotify.raise_limit()
        inotify.give_back()
        assert inotify.limit.read_text() == "4096"


class TestLock:
    @pytest.fixture(autouse=True)
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(plans, "RUN", tmp_path / "run")
        monkeypatch.setattr(cgroups, "groups", set)
        return tmp_path / "run"

    def test_many_take_turns_and_leave_nothing(self, run: Path) -> None:
        inside: list[int] = []
        most: list[int] = []

        def work(number: int) -> None:
            for _ in range(5):
                with host.lock(lambda _: None):
                    inside.append(number)
                    time.sleep(0.002)
                    most.append(len(inside))
                    inside.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(most), max(most)) == (20, 1)
        assert not run.exists()

    def test_who_waits_says_so_and_gives_up(self) -> None:
        said: list[str] = []
        with host.lock(said.append):
            with pytest.raises(LabError, match="was held for"), host.lock(said.append, deadline=0):
                pass
            assert said == ["another `lab up` or `lab down` is at work on this host: waiting for it"]


class TestControlGroups:
    @pytest.mark.parametrize(
        ("text", "size"), [("512", 512), ("1k", 1000), ("64Mi", 64 * 2**20), ("1.5Gi", 3 * 2**29), ("2G", 2 * 10**9)]
    )
    def test_quantities(self, text: str, size: int) -> None:
        assert cgroups.quantity(text) == size

    @pytest.fixture
    def unified(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A cgroup v2 tree as systemd and systemd-nspawn make it, as plain files."""
        payload = tmp_path / "system.slice" / "platformlib-abc-machine-m0.scope" / "payload"
        (payload / "kubepods.slice").mkdir(parents=True)
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
        (payload / "memory.max").write_text("max\n")
        (payload / "kubepods.slice" / "cgroup.procs").write_text("41\n42\n")
        (payload.parent / "cgroup.procs").write_text("0\n40\n")
        (payload.parent / "memory.stat").write_text("anon 4096\nfile 8192\n")
        monkeypatch.setattr(cgroups, "ROOT", tmp_path)
        return payload

    @pytest.mark.usefixtures("unified")
    def test_v2_groups_processes_and_memory(self) -> None:
        assert cgroups.version() == 2
        assert cgroups.groups("abc") == cgroups.groups() == {"platformlib-abc-machine-m0"}
        assert cgroups.groups("abd") == set()
        assert cgroups.members("platformlib-abc-machine-m0") == {40, 41, 42}
        assert cgroups.memory("platformlib-abc-machine-m0") == 4096

    def test_v2_tells_the_machine_its_limit(self, unified: Path) -> None:
        assert cgroups.limit_payload("platformlib-abc-machine-m0", 512 * 2**20)
        assert (unified / "memory.max").read_text() == "536870912"
        assert not cgroups.limit_payload("platformlib-abc-machine-m1", 1, deadline=0.1)

    @pytest.mark.usefixtures("unified")
    def test_v2_starts_a_scope_with_limits_and_without_block_devices(self) -> None:
        argv = cgroups.start_argv("platformlib-x", 1024, 1.5, ["boot", "it"])
        properties = {argv[index + 1] for index, word in enumerate(argv) if word == "-p"}
        assert argv[:2] == ["systemd-run", "--scope"]
        assert {"Delegate=yes", "MemoryMax=1024", "CPUQuota=150%", "DevicePolicy=closed"} <= properties
        assert argv[-3:] == ["--", "boot", "it"]

    def test_v1_limits_the_machine_from_outside_and_tells_it_inside(self, tmp_path: Path) -> None:
        outer = tmp_path / "platformlib-x"
        for folder in (outer, outer / cgroups.INNER):
            folder.mkdir()
            for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us", "devices.deny"):
                (folder / name).write_text("")
        inner = cgroups.prepare(outer, 1024, 0.5)
        assert inner == outer / cgroups.INNER
        assert {(it / "memory.limit_in_bytes").read_text() for it in (outer, inner)} == {"1024"}
        assert (inner / "cpu.cfs_quota_us").read_text() == "50000"
        assert ((outer / "devices.deny").read_text() != "", (inner / "devices.deny").read_text()) == (True, "")


def test_mounts_below_a_path_with_spaces_are_found() -> None:
    text = "overlay /state/my\\040lab/root overlay rw 0 0\nproc /proc proc rw 0 0\ntmpfs /a\\011b\\134c tmpfs rw 0 0\n"
    assert mounts(text) == [Path("/state/my lab/root"), Path("/proc"), Path("/a\tb\\c")]


def test_a_machine_gets_no_capability_over_the_host_s_modules_clock_memory_or_policies() -> None:
    made = plan(settings())
    argv = nspawn(made, made.machines[0], Path("/root"))
    granted = next(word for word in argv if word.startswith("--capability="))
    assert set(granted.removeprefix("--capability=").split(",")) == {"CAP_NET_ADMIN", "CAP_SYSLOG"}
    assert "--hostname=m0" in argv
    assert f"--machine=pl{made.tag}-m0" in argv


LOG = """Nov 23 16:25:50 dnsmasq[7]: query[A] m0 from 192.168.77.3
Nov 23 16:25:50 dnsmasq[7]: config m0 is 192.168.77.2
Nov 23 16:25:51 dnsmasq[7]: query[AAAA] registry.example from 192.168.77.2
Nov 23 16:25:51 dnsmasq[7]: query[HINFO] 7445.1517 from 192.168.77.2
Nov 23 16:25:51 dnsmasq[7]: config error is REFUSED (EDE: not ready)
"""


def test_only_names_from_outside_count_as_refused() -> None:
    made: Plan = plan(settings())
    made.folder.mkdir(parents=True)
    (made.folder / "names.log").write_text(LOG)
    assert refused_lookups(made) == ["registry.example (asked by 192.168.77.2)"]
