"""k3s on real machines over SSH: files, modes, units, restarts, re-runs, cut connections, upgrades, removal.

The binary is a stand-in that is named so (k3s_stand_in.py), unless K3S_BINARY=/path names a real one.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import platformlib as pl
from platformlib.clusters.k3s import K3s, service
from platformlib.clusters.k3s.kubectl import PROBE, Kubectl
from platformlib.errors import ClusterError, NodeError, PreflightFailed
from platformlib.lab import Lab
from tests.lab import k3s_lab
from tests.lab.k3s_lab import BROKEN, FIRST, REAL, SECOND, WHY_NO_SECOND

second_release = pytest.mark.skipif(bool(WHY_NO_SECOND), reason=WHY_NO_SECOND)
stand_in_only = pytest.mark.skipif(bool(REAL), reason="asks the stand-in for what a real k3s does not do on request")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in shows sooner than a real k3s whether its process stays."""
    if not REAL:
        monkeypatch.setattr(service, "STEADY", 2.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return k3s_lab.make_bundle(tmp_path_factory.mktemp("k3s") / "bundle")


@pytest.fixture(scope="module")
def machines(bundle: Path) -> Iterator[Lab]:
    """A lab of its own, gone after the tests."""
    lab = Lab(k3s_lab.settings(bundle))
    lab.down()
    lab.up(print)
    yield lab
    lab.down(print)


@pytest.fixture
def bare(machines: Lab, bundle: Path) -> Iterator[K3s]:
    """One server and two agents to be, with nothing on them; cleaned afterwards whatever happened."""
    driver = K3s(k3s_lab.settings(bundle))
    yield driver
    for machine in K3s(driver.settings).machines.values():
        k3s_lab.rebuild(machine)


@pytest.fixture(scope="class")
def cluster(machines: Lab, bundle: Path) -> Iterator[K3s]:
    """One server, two agents, installed once for the tests of a class, which leave it as it was."""
    driver = K3s(k3s_lab.settings(bundle))
    driver.install()
    driver.join()
    yield driver
    for machine in driver.machines.values():
        k3s_lab.rebuild(machine)


@pytest.fixture(scope="class")
def servers(machines: Lab, bundle: Path) -> Iterator[K3s]:
    """Three servers, installed once for the tests of a class, which leave them as they were."""
    driver = K3s(k3s_lab.settings(bundle, servers=3))
    driver.install()
    driver.join()
    yield driver
    for machine in driver.machines.values():
        k3s_lab.rebuild(machine)


def mode(driver: K3s, node: str, path: str) -> str:
    return driver.machines[node].run(["stat", "-c", "%a %U", path]).stdout.strip()


class TestOneServer:
    def test_members_and_files(self, cluster: K3s) -> None:
        seen = k3s_lab.members(cluster)
        assert {name: (member.ready, member.version) for name, member in seen.items()} == dict.fromkeys(
            ("k3s-1", "k3s-2", "k3s-3"), (True, FIRST)
        )
        private = ("config.yaml", "token", "agent-token", "k3s.yaml")
        assert {mode(cluster, "k3s-1", f"/etc/rancher/k3s/{name}") for name in private} == {"600 root"}
        assert mode(cluster, "k3s-2", "/etc/rancher/k3s/token") == "600 root"
        assert mode(cluster, "k3s-1", "/var/lib/rancher/k3s/server/psa.yaml") == "600 root"
        assert mode(cluster, "k3s-1", "/var/lib/rancher/k3s/server/logs") == "700 root"

    def test_agents_do_not_hold_the_servers_token(self, cluster: K3s) -> None:
        own = (cluster.machines["k3s-1"].read("/etc/rancher/k3s/token") or b"").decode().strip()
        theirs = (cluster.machines["k3s-2"].read("/etc/rancher/k3s/token") or b"").decode()
        assert len(own) == 64
        assert own not in theirs
        assert theirs.startswith("K10")  # it names the CA, so an agent cannot be led astray

    def test_the_kubeconfig_leads_to_the_server(self, cluster: K3s) -> None:
        path = cluster.kubeconfig()
        document = yaml.safe_load(path.read_text("utf-8"))
        assert document["clusters"][0]["cluster"]["server"] == "https://192.168.51.201:6443"
        assert document["current-context"] == "k3slab"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_second_run_changes_and_restarts_nothing(self, cluster: K3s) -> None:
        before, running = k3s_lab.fingerprint(cluster), k3s_lab.processes(cluster)
        again = [K3s(cluster.settings).install(), K3s(cluster.settings).join()]
        assert not any(table["changed"].any() for table in again)
        assert (k3s_lab.fingerprint(cluster), k3s_lab.processes(cluster)) == (before, running)

    def test_no_secret_in_journals_arguments_or_events(self, cluster: K3s, capfd: pytest.CaptureFixture[str]) -> None:
        events: list[str] = []
        tables = [cluster.install(events.append), cluster.join(events.append), cluster.facts()]
        shown = "".join([*events, *(table.to_string() for table in tables), repr(cluster), *capfd.readouterr()])
        for name, machine in cluster.machines.items():
            paths = ("token", "agent-token") if name == "k3s-1" else ("token",)
            for path in paths:
                secret = (machine.read(f"/etc/rancher/k3s/{path}") or b"").decode().strip().rpartition(":")[2]
                script = 'journalctl -o cat; cat /var/log/k3s-stand-in.log; tr "\\0" " " < /proc/[0-9]*/cmdline'
                seen = machine.run(["sh", "-c", script], check=False).stdout
                assert secret
                assert secret not in seen + shown

    def test_a_change_restarts_only_the_nodes_it_concerns(self, cluster: K3s, bundle: Path) -> None:
        before = k3s_lab.processes(cluster)
        labelled = {"k3s-3": {"labels": {"disk": "ssd"}, "taints": ["dedicated=storage:NoSchedule"]}}
        changed = K3s(k3s_lab.settings(bundle, nodes=labelled))
        changed.install()
        after = k3s_lab.processes(cluster)
        assert {name for name in before if before[name] != after[name]} == {"k3s-3"}
        member = k3s_lab.members(cluster)["k3s-3"]
        assert (member.labels["disk"], member.taints) == ("ssd", frozenset({"dedicated=storage:NoSchedule"}))
        assert "mirrors" not in (cluster.machines["k3s-3"].read("/etc/rancher/k3s/registries.yaml") or b"").decode()
        cluster.install()
        member = k3s_lab.members(cluster)["k3s-3"]
        assert ("disk" in member.labels, member.taints) == (False, frozenset())

    def test_a_restart_that_was_missed_is_made_up_for(self, cluster: K3s, bundle: Path) -> None:
        """The file was written, then the connection went: the next run restarts, though it finds the file right."""
        other = K3s(k3s_lab.settings(bundle, tls_san=["k3s.example.org"]))
        before = k3s_lab.processes(cluster)["k3s-1"]
        seats, looked, _ = other._look()
        assert other._preparing(seats[:1], looked, FIRST, print)[0].work()
        assert k3s_lab.processes(cluster)["k3s-1"] == before
        other.install()
        assert k3s_lab.processes(cluster)["k3s-1"] != before
        cluster.install()

    def test_a_lost_token_comes_back(self, cluster: K3s) -> None:
        server = cluster.machines["k3s-1"]
        token = server.read("/etc/rancher/k3s/token")
        server.run(["rm", "/etc/rancher/k3s/token"])
        cluster.install()
        assert server.read("/etc/rancher/k3s/token") == token
        assert mode(cluster, "k3s-1", "/etc/rancher/k3s/token") == "600 root"

    def test_power_comes_back_in_any_order(self, cluster: K3s, machines: Lab) -> None:
        machines.cut_power()
        machines.up()
        assert cluster.join()["node"].tolist() == ["k3s-1", "k3s-2", "k3s-3"]
        assert all(member.ready for member in k3s_lab.members(cluster).values())

    @pytest.mark.parametrize(
        ("version", "words"),
        [("v1.99.0+k3s1", "skips a minor"), ("v1.20.0+k3s1", "is older than"), ("v1.36.0", "no release")],
    )
    def test_a_forbidden_step_touches_nothing(self, cluster: K3s, version: str, words: str) -> None:
        before = k3s_lab.processes(cluster)
        with pytest.raises(ClusterError, match=words):
            cluster.upgrade(version)
        assert k3s_lab.processes(cluster) == before
        assert cluster.snapshots().empty

    def test_without_a_snapshot_there_is_no_way_back(self, cluster: K3s) -> None:
        before = k3s_lab.processes(cluster)
        with pytest.raises(ClusterError, match="there is no snapshot"):
            cluster.rollback("any")
        assert k3s_lab.processes(cluster) == before

    def test_one_node(self, cluster: K3s) -> None:
        done = cluster.uninstall(nodes=["k3s-3"])
        assert done["step"].tolist() == ["drain", "stop", "delete", "remove"]
        assert set(done["left"]) == {""}
        assert set(k3s_lab.members(cluster)) == {"k3s-1", "k3s-2"}
        with pytest.raises(ClusterError, match="no server would be left: no quorum"):
            cluster.uninstall(nodes=["k3s-1"])
        with pytest.raises(ClusterError, match="no node k3s-9 in the parameters"):
            cluster.uninstall(nodes=["k3s-9"])
        cluster.install()
        cluster.join()
        assert k3s_lab.members(cluster)["k3s-3"].ready


class TestRefusals:
    def test_an_agent_before_any_server(self, bare: K3s) -> None:
        with pytest.raises(ClusterError, match=r"no server has a cluster yet \(k3s-1\)"):
            bare.join()
        assert all(not machine.read("/etc/platformlib/k3s") for machine in bare.machines.values())

    def test_a_port_in_use_and_leftovers_of_others_before_anything_is_changed(self, bare: K3s) -> None:
        listen = "import socket,time; s=socket.socket(); s.bind(('', 6443)); s.listen(); time.sleep(600)"
        bare.machines["k3s-1"].run(["systemd-run", "-q", "--unit=listener", "python3", "-c", listen])
        bare.machines["k3s-2"].write("/var/lib/rancher/k3s/agent/server-ca.crt", "another cluster's")
        try:
            with pytest.raises(PreflightFailed) as refused:
                bare.install()
        finally:
            bare.machines["k3s-1"].run(["systemctl", "stop", "listener"])
        bad = refused.value.table[~refused.value.table["ok"]]
        wanted = {("k3s-1", "ports"), ("k3s-2", "owner"), ("k3s-2", "cluster")}
        assert set(zip(bad["node"], bad["check"], strict=True)) == wanted
        assert "python3" in bad[bad["check"] == "ports"]["found"].item()
        assert not bare.machines["k3s-3"].read("/etc/platformlib/k3s")

    def test_a_wrong_token_is_named_and_a_right_one_mends_it(self, bare: K3s) -> None:
        bare.install()
        server, path = bare.machines["k3s-1"], "/var/lib/rancher/k3s/server/agent-token"
        right = (server.read(path) or b"").decode()
        server.write(path, right.rpartition(":")[0] + ":wrong\n", 0o600)
        with pytest.raises(NodeError, match="refused this machine's token") as refused:
            bare.join()
        assert right.rpartition(":")[2].strip() not in str(refused.value)
        server.write(path, right, 0o600)
        bare.join()
        assert all(member.ready for member in k3s_lab.members(bare).values())


class TestCutConnections:
    """Each command in turn is the one at which SSH is lost; what follows goes on from there."""

    @pytest.fixture
    def pair(self, bare: K3s, bundle: Path) -> K3s:
        """A server and an agent: a second agent would only do the same again."""
        assert bare.settings.name == "k3slab"  # whose machines it cleans afterwards
        return K3s(k3s_lab.settings(bundle, count=2))

    def until_done(self, driver: K3s, steps: tuple[str, ...], *arguments: str) -> int:
        """Run `steps` again and again, cut one command later each time; how many runs were cut."""
        number = 0
        while True:
            number += 1
            cut = k3s_lab.cut_everywhere(driver, number)
            try:
                for step in steps:
                    getattr(cut, step)(*arguments)
            except (NodeError, ClusterError) as error:
                assert "cut" in str(error), error
            else:
                return number - 1

    def test_install_and_join(self, pair: K3s) -> None:
        cuts = self.until_done(pair, ("install", "join"))
        assert cuts > 30
        assert len(k3s_lab.authorities(pair, pair.machines)) == 1
        assert {name for name, member in k3s_lab.members(pair).items() if member.ready} == set(pair.machines)
        disturbed = k3s_lab.fingerprint(pair)
        pair.uninstall()
        pair.install()
        pair.join()
        assert k3s_lab.fingerprint(pair) == disturbed

    @pytest.mark.full
    @second_release
    def test_upgrade_rollback_and_uninstall(self, pair: K3s) -> None:
        pair.install()
        pair.join()
        k3s_lab.change(pair, "create", "namespace", "before")
        assert self.until_done(pair, ("upgrade",), SECOND) > 20
        seen = k3s_lab.members(pair)
        assert {(member.ready, member.version, member.cordoned) for member in seen.values()} == {(True, SECOND, False)}
        k3s_lab.change(pair, "create", "namespace", "after")
        known = pair.snapshots()
        assert set(known["version"]) == {FIRST}
        first = known["id"].iloc[0]
        assert self.until_done(pair, ("rollback",), first) > 15
        seen = k3s_lab.members(pair)
        assert {(member.ready, member.version) for member in seen.values()} == {(True, FIRST)}
        names = k3s_lab.namespaces(pair)
        assert "before" in names
        assert "after" not in names
        self.until_done(pair, ("uninstall",))
        left = pair.uninstall().set_index("node")["left"]
        assert "snapshots in /var/lib/platformlib/k3s/snapshots, kept" in left["k3s-1"]
        assert left["k3s-2"] == ""


class TestUpgrade:
    @stand_in_only
    def test_a_version_that_never_works_stops_at_the_first_server_and_goes_back(
        self, bare: K3s, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bare.install()
        bare.join()
        agents = {name: process for name, process in k3s_lab.processes(bare).items() if name != "k3s-1"}
        monkeypatch.setattr(service, "DEADLINE", 4.0)
        with pytest.raises(ClusterError, match="k3s is not active after 4 s: activating"):
            bare.upgrade(BROKEN)
        with pytest.raises(ClusterError, match=r"which snapshot\? it is never chosen for you\n.*KiB, sqlite v"):
            bare.rollback()
        untouched = k3s_lab.processes(bare)
        assert {name: untouched[name] for name in agents} == agents
        monkeypatch.setattr(service, "DEADLINE", 60.0)
        bare.rollback(bare.snapshots()["id"].iloc[-1])
        seen = k3s_lab.members(bare)
        assert {(member.ready, member.version) for member in seen.values()} == {(True, FIRST)}

    @second_release
    def test_a_node_that_others_cordoned_stays_cordoned(self, bare: K3s) -> None:
        bare.install()
        bare.join()
        k3s_lab.change(bare, "drain", "k3s-3", "--ignore-daemonsets")
        bare.upgrade(SECOND)
        assert {name for name, member in k3s_lab.members(bare).items() if member.cordoned} == {"k3s-3"}


class TestUninstall:
    OWN = """
    ip link add veth-mine type veth peer name veth-mine2
    iptables -N MINE; iptables -A INPUT -p tcp --dport 6443 -m comment --comment "kubernetes api" -j MINE
    mkdir -p /var/lib/cni/networks/podman; echo x > /usr/local/bin/kubectl
    mkdir -p /var/lib/rancher/k3s/storage/pvc-1; echo data > /var/lib/rancher/k3s/storage/pvc-1/file
    """
    THERE = """
    ip -o link show veth-mine | wc -l; iptables-save | grep -c MINE; ls -d /var/lib/cni/networks/podman
    cat /usr/local/bin/kubectl /var/lib/rancher/k3s/storage/pvc-1/file
    """
    CLEAN = "ip link delete veth-mine; iptables -F INPUT; iptables -X MINE; rm -rf /var/lib/cni /var/lib/rancher/k3s"

    def test_what_is_the_users_stays_and_all_else_goes(self, bare: K3s) -> None:
        agent = bare.machines["k3s-3"]
        agent.shell(self.OWN)
        mine = agent.shell(self.THERE)
        bare.install()
        bare.join()
        try:
            table = bare.uninstall().set_index("node")
            assert agent.shell(self.THERE) == mine
            assert table["left"].to_dict() == {
                "k3s-1": "",
                "k3s-2": "",
                "k3s-3": "file /var/lib/rancher/k3s; volumes in /var/lib/rancher/k3s/storage, kept: 1",
            }
        finally:
            agent.shell(self.CLEAN)


class TestThreeServers:
    @pytest.mark.usefixtures("bare")
    def test_the_life_of_a_cluster(self, bundle: Path) -> None:
        """Install, lose the first server, rebuild it, upgrade, go back, uninstall: always one cluster."""
        driver = K3s(k3s_lab.settings(bundle, servers=3))
        driver.install()
        driver.join()
        founded = k3s_lab.authorities(driver)
        assert len(founded) == 1
        self.rebuilt_first(driver)
        assert k3s_lab.authorities(driver) == founded
        with pytest.raises(ClusterError, match=r"without k3s-[12], 1 of 2 servers would run: no quorum"):
            driver.uninstall(nodes=["k3s-1", "k3s-2"])
        assert len(Kubectl(driver.machines["k3s-1"]).etcd()) == 3  # refused before anything was touched
        if not WHY_NO_SECOND:
            self.upgraded_and_back(driver)
            assert k3s_lab.authorities(driver) == founded
        assert driver.uninstall(delete_data=["snapshots"])["left"].tolist() == ["", "", ""]

    def rebuilt_first(self, driver: K3s) -> None:
        k3s_lab.change(driver, "create", "namespace", "kept", on="k3s-2")
        k3s_lab.rebuild(driver.machines["k3s-1"])
        again = K3s(driver.settings)
        assert set(again.install()["step"]) == {"prepare", "join"}
        seen = k3s_lab.members(driver)
        assert {(name, member.ready) for name, member in seen.items()} == {(name, True) for name in driver.machines}
        assert "kept" in k3s_lab.namespaces(driver)

    def upgraded_and_back(self, driver: K3s) -> None:
        driver.upgrade(SECOND)
        k3s_lab.change(driver, "create", "namespace", "after")
        assert {member.version for member in k3s_lab.members(driver).values()} == {SECOND}
        known = driver.snapshots()
        known = known[known["kind"] == "etcd"]  # an earlier cluster of these machines may have left another kind
        assert set(known["node"]) == {"k3s-1", "k3s-2"}  # its copy is on another server
        driver.rollback(known["id"].iloc[0])
        for server in driver.machines:
            seen = k3s_lab.members(driver, server)
            assert {(member.ready, member.version) for member in seen.values()} == {(True, FIRST)}
            names = k3s_lab.namespaces(driver, server)
            assert "kept" in names
            assert "after" not in names


@stand_in_only
class TestTruth:
    """What the driver says is what is: on three servers, of which something is wrong."""

    def test_another_machines_wrong_token_is_no_failure_of_this_one(self, servers: K3s, bundle: Path) -> None:
        server, intruder = servers.machines["k3s-1"], servers.machines["k3s-3"]
        intruder.change(["systemd-run", "-q", "--unit=intruder", "python3", "-c", k3s_lab.INTRUDER])
        try:
            restarted = K3s(k3s_lab.settings(bundle, servers=3, tls_san=["k3s.example.org"]))
            before = k3s_lab.processes(servers)
            restarted.install()
            assert all(before[name] != after for name, after in k3s_lab.processes(servers).items())
            journal = server.shell("journalctl -u k3s -b -o cat | grep 'Sending HTTP 401 response' | tail -n 1")
            assert "not authorized" in journal
        finally:
            intruder.change(["systemctl", "stop", "intruder"])
            servers.install()

    @pytest.mark.parametrize("fault", ["a kubelet that ends", "no-heartbeat", "no-pods"])
    def test_a_kubelet_that_fails_stops_at_the_first_server(
        self, servers: K3s, bundle: Path, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        """k3s is READY all the same, and the node's condition stays Ready for 40 s."""
        monkeypatch.setattr(service.prove, "__kwdefaults__", {"deadline": 8.0})
        machine, before = servers.machines["k3s-1"], k3s_lab.processes(servers)
        words = {"no-heartbeat": "no heartbeat", "no-pods": "a pod on it is Pending"}.get(fault, "unknown flag: --bad")
        options = {"config": {"kubelet-arg": ["bad=1"]}} if fault.startswith("a ") else {"tls_san": [fault]}
        if not fault.startswith("a "):
            machine.write("/etc/k3s-stand-in", fault)
        try:
            with pytest.raises(ClusterError, match=words):
                K3s(k3s_lab.settings(bundle, servers=3, **options)).install()
            after = k3s_lab.processes(servers)
            assert {name: after[name] for name in ("k3s-2", "k3s-3")} == {
                name: before[name] for name in ("k3s-2", "k3s-3")
            }
        finally:
            machine.remove("/etc/k3s-stand-in")
            monkeypatch.undo()
            servers.install()
        assert (
            not Kubectl(servers.machines["k3s-1"])
            .read("get", "pod", f"{PROBE}-k3s-1", "-n", "kube-system", check=False)
            .ok
        )

    def test_an_option_that_k3s_skips_is_named_each_time(self, servers: K3s, bundle: Path) -> None:
        other = K3s(k3s_lab.settings(bundle, servers=3, config={"enable-pprof": True}))
        for _ in range(2):
            with pytest.raises(NodeError, match=r"k3s-1: .*skips options.*: enable-pprof"):
                other.install()
        servers.install()

    def test_a_member_that_no_node_stands_for_is_named(self, servers: K3s) -> None:
        servers.machines["k3s-1"].change(["/usr/local/bin/k3s", "stand-in", "ghost", "k3s-9-0badcafe"])
        with pytest.raises(ClusterError, match=r"members without a node: k3s-9-0badcafe(.|\n)*member remove"):
            servers.uninstall(nodes=["k3s-3"])

    def test_a_dry_run_tells_and_changes_nothing(self, servers: K3s, bundle: Path) -> None:
        before, running = k3s_lab.fingerprint(servers), k3s_lab.processes(servers)
        dry = K3s(k3s_lab.settings(bundle, servers=3, tls_san=["other"]), dry_run=True)
        tables = [dry.install(), dry.join(), dry.upgrade(SECOND), dry.snapshot(), dry.rotate_certificates(),
                  dry.rotate_token(), dry.uninstall()]  # fmt: skip
        assert all(table.columns.tolist() == ["node", "step", "action"] for table in tables)
        assert "would write /etc/rancher/k3s/config.yaml" in tables[0]["action"].iloc[0]
        assert (k3s_lab.fingerprint(servers), k3s_lab.processes(servers)) == (before, running)


class TestMachinesThatAreGone:
    def test_one_that_does_not_answer_stops_only_what_needs_it(self, machines: Lab, bare: K3s) -> None:
        bare.install()
        bare.join()
        machines.cut_power("k3s-3")
        try:
            facts = bare.facts().set_index("node")
            assert "no SSH" in facts["error"]["k3s-3"] or facts["error"]["k3s-3"]
            assert facts["error"]["k3s-2"] == ""
            with pytest.raises(PreflightFailed, match="k3s-3: login"):
                bare.preflight()
            with pytest.raises(ClusterError, match=r"done on all others, but 1 did not answer\n  k3s-3"):
                bare.join()
            if not REAL:
                with pytest.raises(ClusterError, match="k3s-3 does not answer here, but it is a Ready node"):
                    bare.uninstall(nodes=["k3s-3"])
            k3s_lab.until(lambda: not k3s_lab.members(bare)["k3s-3"].ready, 70)
            assert bare.uninstall(nodes=["k3s-3"])["step"].tolist() == ["delete"]
            assert set(k3s_lab.members(bare)) == {"k3s-1", "k3s-2"}
        finally:
            machines.up()

    def test_no_cluster_is_founded_beside_a_server_that_does_not_answer(self, machines: Lab, bundle: Path) -> None:
        driver = K3s(k3s_lab.settings(bundle, servers=3))
        machines.cut_power("k3s-2")
        try:
            with pytest.raises(ClusterError, match="k3s-2 may have one"):
                driver.install()
            assert not driver.machines["k3s-1"].read("/etc/platformlib/k3s")
        finally:
            machines.up()

    def test_a_server_that_is_gone_for_good_is_replaced(self, machines: Lab, bare: K3s, bundle: Path) -> None:
        """Three servers, one lost with its disk, a new machine in its place: a quorum of three again."""
        assert bare.settings.name
        driver = K3s(k3s_lab.settings(bundle, servers=3))
        driver.install()
        driver.join()
        k3s_lab.change(driver, "create", "namespace", "kept")
        founded = k3s_lab.authorities(driver)
        driver.machines["k3s-2"].change_shell("systemctl stop k3s")
        k3s_lab.rebuild(driver.machines["k3s-2"])
        machines.cut_power("k3s-2")
        k3s_lab.until(lambda: not k3s_lab.members(driver)["k3s-2"].ready, 70)
        done = driver.uninstall(nodes=["k3s-2"])
        assert done["step"].tolist() == ["delete", "etcd"]
        assert {member.node for member in Kubectl(driver.machines["k3s-1"]).etcd()} == {"k3s-1", "k3s-3"}
        machines.up()
        driver.install()
        driver.join()
        assert {member.node for member in Kubectl(driver.machines["k3s-2"]).etcd()} == set(driver.machines)
        assert "kept" in k3s_lab.namespaces(driver, "k3s-2")
        assert k3s_lab.authorities(driver) == founded

    @stand_in_only
    def test_a_failed_first_install_does_not_leave_its_version(
        self, bare: K3s, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert bare.settings.name
        monkeypatch.setattr(service, "DEADLINE", 3.0)
        with pytest.raises(ClusterError, match="not active"):
            K3s(k3s_lab.settings(bundle, count=1, version=BROKEN, datastore="etcd")).install()
        k3s_lab.rebuild_data(bare.machines["k3s-1"])
        monkeypatch.setattr(service, "DEADLINE", 60.0)
        bare.install()
        assert k3s_lab.members(bare)["k3s-1"].version == FIRST


class TestDrains:
    @stand_in_only
    def test_pods_that_nothing_starts_again(self, bare: K3s) -> None:
        bare.install()
        bare.join()
        k3s_lab.pod(bare, "bare", "k3s-2")
        before = k3s_lab.processes(bare)
        with pytest.raises(
            ClusterError, match=r"nothing would start again; nothing was changed\n  k3s-2: default/bare"
        ):
            bare.upgrade(SECOND)
        assert k3s_lab.processes(bare) == before
        assert "default/bare loses the pod" in " ".join(
            K3s(bare.settings, dry_run=True).upgrade(SECOND, force=True)["action"]
        )
        bare.upgrade(SECOND, force=True)
        assert not Kubectl(bare.machines["k3s-1"]).pods("k3s-2")

    @stand_in_only
    def test_a_budget_is_named_and_the_node_can_be_given_back(self, bare: K3s, monkeypatch: pytest.MonkeyPatch) -> None:
        bare.install()
        bare.join()
        k3s_lab.pod(bare, "guarded", "k3s-3", owner="ReplicaSet", budget="blocked")
        monkeypatch.setattr(Kubectl.drain, "__kwdefaults__", {"timeout": 2, "force": False})
        with pytest.raises(ClusterError, match=r"k3s-3 could not be drained(.|\n)*disruption budget") as refused:
            bare.uninstall(nodes=["k3s-3"])
        assert "kubectl uncordon k3s-3" in refused.value.fix
        assert k3s_lab.members(bare)["k3s-3"].ready


@pytest.mark.full
class TestHosts:
    """Hosts as they are: two networks, a proxy, registries of one's own, firewalls, SELinux, no iptables."""

    FIREWALL = "nft add table inet mine; nft add chain inet mine in '{ type filter hook input priority 0; }'; "
    SELINUX = "#!/bin/sh\necho Enforcing\n"
    HIDE = """mkdir -p /root/hidden
    for tool in iptables iptables-save iptables-restore ip6tables ip6tables-save ipset nft; do
      for path in $(which -a $tool); do mv $path /root/hidden/; done
    done"""
    SHOW = "mv /root/hidden/* /usr/sbin/; rmdir /root/hidden"

    def test_all_of_it(self, bare: K3s, bundle: Path) -> None:
        server, agent, other = bare.machines.values()
        agent.change_shell(
            "ip link add eth9 type dummy; ip address add 10.9.9.2/24 dev eth9; ip link set eth9 up; "
            "ip route add default dev eth9"
        )
        other.write("/etc/rancher/k3s/registries.yaml", "mirrors: {docker.io: {}}\n")
        nodes = {"k3s-2": {"config": {"node-external-ip": "203.0.113.2"}}}
        driver = K3s(
            k3s_lab.settings(
                bundle, nodes=nodes, cluster={"environment": {"HTTPS_PROXY": "http://proxy.home:3128"}},
                config={"tls-san-security": False},
            )
        )  # fmt: skip
        try:
            self.refusals(driver)
            driver.install()
            driver.join()
            shown = k3s_lab.nodes(driver)
            address = shown["k3s-2"]["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"]
            assert address == "192.168.51.202"  # and not that of the default route's interface
            assert other.read("/etc/rancher/k3s/registries.yaml") == b"mirrors: {docker.io: {}}\n"
            written = (server.read("/etc/rancher/k3s/config.yaml") or b"").decode()
            assert "tls-san-security: false" in written
            environment = server.shell('tr "\\0" "\\n" < /proc/$(systemctl show -p MainPID --value k3s)/environ')
            assert "HTTPS_PROXY=http://proxy.home:3128" in environment
            assert "10.42.0.0/16" in environment
            assert mode(driver, "k3s-1", "/etc/systemd/system/k3s.service.env") == "600 root"
            assert not server.run(["test", "-L", "/usr/local/bin/k3s"], check=False).ok
            agent.change_shell(self.HIDE)
            left = driver.uninstall().set_index("node")["left"]
            agent.change_shell(self.SHOW)
            assert left["k3s-2"] == ""
            assert "KUBE-" not in agent.shell("iptables-save; ipset list -n")
        finally:
            agent.change_shell("ip link delete eth9; [ -d /root/hidden ] && mv /root/hidden/* /usr/sbin/; true")

    def refusals(self, driver: K3s) -> None:
        server, agent, other = driver.machines.values()
        agent.change_shell(self.FIREWALL + "nft add rule inet mine in ip saddr 192.168.51.0/24 tcp dport 10250 drop")
        other.write("/usr/local/bin/getenforce", self.SELINUX, 0o755)
        mirrored = {**driver.settings.model_dump(mode="json"), "registry": {"mirror": "http://192.168.51.1:5000"}}
        with pytest.raises(PreflightFailed) as refused:
            K3s(pl.load(mirrored)).install()
        bad = refused.value.table[~refused.value.table["ok"]].set_index(["node", "check"])["found"]
        assert set(bad.index) == {("k3s-2", "reached"), ("k3s-3", "SELinux"), ("k3s-3", "registries.yaml")}
        assert "10250/tcp from k3s-1 (silence), 10250/tcp from k3s-3 (silence)" in bad["k3s-2", "reached"]
        assert not server.read("/etc/platformlib/k3s")
        agent.change_shell("nft delete table inet mine")
        other.change_shell("mkdir -p /usr/share/selinux/packages; touch /usr/share/selinux/packages/k3s.pp")
        agent.change_shell(
            self.FIREWALL + "nft chain inet mine in '{ policy drop; }'; nft add rule inet mine in accept"
        )
        with pytest.raises(PreflightFailed, match=r"k3s-2: firewall is nftables without 10\.42"):
            driver.install()
        agent.change_shell("nft delete table inet mine")


@pytest.mark.full
class TestData:
    """Snapshots, migration, restore: with every step that a power cut may hit in test_k3s_power.py."""

    def test_from_sqlite_to_etcd_and_on_to_three_servers(self, bare: K3s, bundle: Path) -> None:
        single = K3s(k3s_lab.settings(bundle, count=1))
        single.install()
        k3s_lab.change(single, "create", "namespace", "kept")
        wider = K3s(k3s_lab.settings(bundle, servers=3))
        with pytest.raises(PreflightFailed, match=r"k3s-1: datastore is sqlite, expected etcd; migrate\(\)"):
            wider.install()
        assert "would move the data" in " ".join(K3s(single.settings, dry_run=True).migrate()["action"])
        assert single.migrate()["step"].tolist() == ["look", "snapshot", "copy", "hold", "migrate", "start"]
        wider.install()
        wider.join()
        assert {member.node for member in Kubectl(wider.machines["k3s-3"]).etcd()} == set(bare.machines)
        assert "kept" in k3s_lab.namespaces(wider, "k3s-3")

    def test_a_schedule_a_bucket_and_new_machines(
        self, bare: K3s, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KEY", "key")
        s3 = {"endpoint": "minio.home:9000", "bucket": "etcd", "access_key": "env:KEY", "secret_key": "env:KEY"}
        driver = K3s(k3s_lab.settings(bundle, count=2, datastore="etcd", snapshots={"s3": s3}))
        driver.install()
        driver.join()
        k3s_lab.change(driver, "create", "namespace", "kept")
        driver.snapshot()
        server = driver.machines["k3s-1"]
        server.change_shell("set -a; . /etc/systemd/system/k3s.service.env; /usr/local/bin/k3s etcd-snapshot save")
        k3s_lab.change(driver, "create", "namespace", "after")
        known = driver.snapshots()
        assert set(known["origin"]) == {"platformlib", "k3s", "s3"}
        own = known[known["origin"] == "platformlib"]
        assert set(own["node"]) == {"k3s-1", "this host"}  # an agent never gets a copy: it has the servers' token
        self.back_to(driver, known[known["origin"] == "k3s"]["id"].item())
        assert server.shell("ls /var/lib/rancher/k3s/server/db/snapshots").strip()  # k3s's own are still there
        self.back_to(driver, known[known["origin"] == "s3"]["id"].item(), origin="s3")
        for machine in bare.machines.values():
            k3s_lab.rebuild(machine)
        again = K3s(driver.settings)
        again.restore(own["id"].iloc[0])
        again.join()
        assert k3s_lab.namespaces(again) >= {"kept"}
        assert "after" not in k3s_lab.namespaces(again)
        assert {member.ready for member in k3s_lab.members(again).values()} == {True}
        with pytest.raises(ClusterError, match="there is a cluster"):
            again.restore(own["id"].iloc[0])

    def back_to(self, driver: K3s, snapshot: str, origin: str = "k3s") -> None:
        if origin == "s3":  # the local file of the same name is gone: only the bucket has it
            driver.machines["k3s-1"].change_shell("rm -f /var/lib/rancher/k3s/server/db/snapshots/on-demand-*")
        driver.rollback(snapshot)
        names = k3s_lab.namespaces(driver)
        assert "kept" in names
        assert "after" not in names
        k3s_lab.change(driver, "create", "namespace", "after")

    def test_keys(self, bundle: Path, bare: K3s) -> None:
        assert bare.settings.name
        driver = K3s(k3s_lab.settings(bundle, servers=3))
        driver.install()
        driver.join()
        old = driver.machines["k3s-1"].read("/var/lib/rancher/k3s/server/token")
        before = k3s_lab.processes(driver)
        assert driver.rotate_token()["changed"].all()
        assert driver.machines["k3s-1"].read("/var/lib/rancher/k3s/server/token") != old
        assert all(k3s_lab.processes(driver)[name] != pid for name, pid in before.items())
        driver.rotate_certificates()
        driver.rotate_encryption()
        assert not any(table["changed"].any() for table in (driver.install(), driver.join()))
        assert {member.ready for member in k3s_lab.members(driver).values()} == {True}
