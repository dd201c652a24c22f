"""k3s on real machines over SSH: files, modes, units, restarts, re-runs, cut connections, upgrades, removal.

The binary is a stand-in that is named so (k3s_stand_in.py), unless K3S_BINARY=/path names a real one.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from platformlib.clusters.k3s import K3s, service
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
        assert cluster.uninstall(nodes=["k3s-3"])["left"].item() == ""
        assert set(k3s_lab.members(cluster)) == {"k3s-1", "k3s-2"}
        with pytest.raises(ClusterError, match="no quorum"):
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
        with pytest.raises(NodeError, match="refused the token") as refused:
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
            except NodeError as error:
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

    @second_release
    def test_upgrade_rollback_and_uninstall(self, pair: K3s) -> None:
        pair.install()
        pair.join()
        kubectl = k3s_lab.kubectl
        k3s_lab.change(pair, "create", "namespace", "before")
        assert self.until_done(pair, ("upgrade",), SECOND) > 20
        seen = k3s_lab.members(pair)
        assert {(member.ready, member.version, member.cordoned) for member in seen.values()} == {(True, SECOND, False)}
        k3s_lab.change(pair, "create", "namespace", "after")
        assert set(pair.snapshots()["version"]) == {FIRST}
        assert self.until_done(pair, ("rollback",)) > 15
        seen = k3s_lab.members(pair)
        assert {(member.ready, member.version) for member in seen.values()} == {(True, FIRST)}
        names = kubectl(pair, "get", "namespaces", "-o", "name").split()
        assert "namespace/before" in names
        assert "namespace/after" not in names
        self.until_done(pair, ("uninstall",))
        assert pair.uninstall()["left"].tolist()[1] == ""


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
        untouched = k3s_lab.processes(bare)
        assert {name: untouched[name] for name in agents} == agents
        monkeypatch.setattr(service, "DEADLINE", 60.0)
        bare.rollback()
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
        with pytest.raises(ClusterError, match="1 of 3 servers would be left: no quorum"):
            driver.uninstall(nodes=["k3s-1", "k3s-2"])
        if not WHY_NO_SECOND:
            self.upgraded_and_back(driver)
            assert k3s_lab.authorities(driver) == founded
        assert driver.uninstall()["left"].tolist() == ["", "", ""]

    def rebuilt_first(self, driver: K3s) -> None:
        k3s_lab.change(driver, "create", "namespace", "kept", on="k3s-2")
        k3s_lab.rebuild(driver.machines["k3s-1"])
        again = K3s(driver.settings)
        assert set(again.install()["step"]) == {"prepare", "join"}
        seen = k3s_lab.members(driver)
        assert {(name, member.ready) for name, member in seen.items()} == {(name, True) for name in driver.machines}
        assert "namespace/kept" in k3s_lab.kubectl(driver, "get", "namespaces", "-o", "name").split()

    def upgraded_and_back(self, driver: K3s) -> None:
        driver.upgrade(SECOND)
        k3s_lab.change(driver, "create", "namespace", "after")
        assert {member.version for member in k3s_lab.members(driver).values()} == {SECOND}
        assert driver.snapshots()["kind"].tolist() == ["etcd"]
        driver.rollback()
        for server in driver.machines:
            seen = k3s_lab.members(driver, server)
            assert {(member.ready, member.version) for member in seen.values()} == {(True, FIRST)}
            names = k3s_lab.kubectl(driver, "get", "namespaces", "-o", "name", on=server).split()
            assert "namespace/kept" in names
            assert "namespace/after" not in names
