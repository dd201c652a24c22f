"""A power cut at any step of what the k3s driver does: never an empty cluster, never two, never a lost snapshot.

A machine is ended (SIGKILL of all its processes) before, in the middle of, or right after one command of the driver,
and booted again; what it then does by itself is looked at; then the same verb is run again, cut at a later step, until
it gets through. One verb is drawn by the seed; `--full` runs all, and cuts at each step.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from platformlib.clusters.k3s import K3s, service
from platformlib.clusters.k3s.kubectl import Kubectl
from platformlib.errors import ClusterError, CommandFailed, NodeError
from platformlib.lab import Lab
from tests.lab import k3s_lab
from tests.lab.k3s_lab import FIRST, REAL, SECOND, WHY_NO_SECOND

pytestmark = [pytest.mark.full, pytest.mark.skipif(bool(WHY_NO_SECOND), reason=WHY_NO_SECOND)]
VERBS = ("install", "upgrade", "rollback", "removal", "migration")
CUTS = 4


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
def outage(machines: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> Iterator["Outage"]:
    if not REAL:
        monkeypatch.setattr(service, "STEADY", 1.0)
    yield Outage(machines, random.Random(seed))
    machines.up()
    for machine in K3s(k3s_lab.settings(bundle)).machines.values():
        k3s_lab.rebuild(machine)


class Outage:
    """Runs a verb with cuts until it gets through, and looks at the machines after each."""

    def __init__(self, machines: Lab, chance: random.Random) -> None:
        self.machines, self.chance = machines, chance
        self.kept: set[str] = set()
        self.authority: set[str] = set()
        self.snapshots: set[str] = set()
        self.every = False

    def survive(self, driver: K3s, *verbs: Callable[[K3s], object]) -> int:
        """The number of cuts that it took."""
        number, cuts = 0, 0
        while True:
            number += 1 if self.every else self.chance.randint(3, 25)
            k3s_lab.PowerCut.lab = self.machines
            cut = k3s_lab.cut_everywhere(driver, number, k3s_lab.PowerCut)
            limit = cuts >= CUTS and not self.every
            try:
                for verb in verbs:
                    verb(K3s(driver.settings) if limit else cut)
            except (NodeError, ClusterError) as error:
                assert "cut" in str(error), f"not by the cut at {number}: {error}"
                cuts += 1
                print(f"cut {cuts} at command {number}: {str(error).splitlines()[0][:100]}")
                self.machines.up()
                self.look(driver)
            else:
                return cuts

    def look(self, driver: K3s) -> None:
        """What the machines do by themselves after the power is back."""
        fresh = K3s(driver.settings)
        members: set[frozenset[str]] = set()
        for name, node in fresh.plans.items():
            machine = fresh.machines[name]
            if node.role != "control-plane" or not machine.run(["test", "-x", "/usr/local/bin/k3s"], check=False).ok:
                continue
            with suppress(ClusterError, CommandFailed):
                service.ready(Kubectl(machine), name, deadline=6)
            answer = Kubectl(machine).read("get", "namespaces", "-o", "name", check=False)
            if answer.ok:
                names = {word.partition("/")[2] for word in answer.stdout.split()}
                assert self.kept <= names, f"{name} runs a cluster without {self.kept - names}"
                members.add(frozenset(it.name for it in Kubectl(machine).etcd()))
        assert len(members) <= 1, f"two clusters: {members}"
        if self.authority:
            paths = "/var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/agent/server-ca.crt"
            seen = {machine.shell(f"cat {paths} 2>/dev/null | sort -u") for machine in fresh.machines.values()}
            assert seen - {""} <= self.authority, "a second authority"
        assert self.snapshots <= set(fresh.snapshots()["id"]), "a snapshot is lost"

    def settle(self, driver: K3s, *kept: str) -> None:
        """From now on this is the cluster, and these namespaces are in it."""
        self.kept |= set(kept)
        self.authority = k3s_lab.authorities(driver, driver.machines)
        assert len(self.authority) == 1


def ready(driver: K3s, version: str = FIRST) -> None:
    for name in (name for name, node in driver.plans.items() if node.role == "control-plane"):
        seen = k3s_lab.members(driver, name)
        assert {(it.ready, it.version) for it in seen.values()} == {(True, version)}


@pytest.fixture
def drawn(request: pytest.FixtureRequest, seed: int) -> str:
    """The verb that this run cuts: one by the seed, each with --full."""
    verb = str(request.param)
    full = request.config.getoption("--full")
    if not full and verb != random.Random(seed).choice(VERBS):
        pytest.skip(f"drawn by the seed {seed}: {random.Random(seed).choice(VERBS)}; --full runs each")
    return verb


@pytest.mark.timeout(3600)
@pytest.mark.proves("a power cut at any step leaves no empty and no second cluster", room="clusters/k3s")
@pytest.mark.parametrize("drawn", VERBS, indirect=True)
def test_power_is_cut(outage: Outage, bundle: Path, drawn: str, request: pytest.FixtureRequest) -> None:
    outage.every = bool(request.config.getoption("--full"))
    one = K3s(k3s_lab.settings(bundle, count=1))
    three = K3s(k3s_lab.settings(bundle, servers=3))
    if drawn == "migration":
        migration(outage, one)
        return
    if drawn == "install":
        outage.survive(three, K3s.install, K3s.join)
        ready(three)
        assert len(k3s_lab.authorities(three)) == 1
        assert len(Kubectl(three.machines["k3s-1"]).etcd()) == 3
        return
    three.install()
    three.join()
    k3s_lab.change(three, "create", "namespace", "kept")
    outage.settle(three, "kept")
    {"upgrade": upgrade, "rollback": rollback, "removal": removal}[drawn](outage, three)


def upgrade(outage: Outage, driver: K3s) -> None:
    outage.survive(driver, lambda it: it.upgrade(SECOND))
    ready(driver, SECOND)
    assert set(driver.snapshots()["version"]) >= {FIRST}


def rollback(outage: Outage, driver: K3s) -> None:
    driver.snapshot()
    snapshot = driver.snapshots()["id"].iloc[0]
    outage.snapshots = {snapshot}
    k3s_lab.change(driver, "create", "namespace", "after")
    outage.survive(driver, lambda it: it.rollback(snapshot))
    ready(driver)
    for server in driver.machines:
        assert "after" not in k3s_lab.namespaces(driver, server)
    assert len(Kubectl(driver.machines["k3s-1"]).etcd()) == 3


def removal(outage: Outage, driver: K3s) -> None:
    outage.survive(driver, lambda it: it.uninstall(nodes=["k3s-3"]))
    for server in ("k3s-1", "k3s-2"):
        assert set(k3s_lab.members(driver, server)) == {"k3s-1", "k3s-2"}
        assert {it.node for it in Kubectl(driver.machines[server]).etcd()} == {"k3s-1", "k3s-2"}
    assert not driver.machines["k3s-3"].read("/etc/platformlib/k3s")


def migration(outage: Outage, driver: K3s) -> None:
    driver.install()
    k3s_lab.change(driver, "create", "namespace", "kept")
    outage.settle(driver, "kept")
    outage.survive(driver, lambda it: it.migrate())
    ready(driver)
    assert [it.node for it in Kubectl(driver.machines["k3s-1"]).etcd()] == ["k3s-1"]
    assert "kept" in k3s_lab.namespaces(driver)
