"""kubeadm's upgrade and rollback, of a cluster on paper: interrupted at any command, broken, refused, rehearsed."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import platformlib as pl
from platformlib.bundle import Bundle
from platformlib.clusters.kubeadm import Kubeadm, install, upgrade
from platformlib.clusters.kubeadm.install import Program, inspect
from platformlib.clusters.kubectl import CORDONED
from platformlib.errors import ClusterError, CommandFailed, NodeError, PlatformError
from tests.unit.kubeadm_world import NEW, OLD, World
from tests.unit.test_clusters import fit


def settings(count: int) -> Any:
    nodes = [{"name": "c", "address": "192.168.1.10", "role": "control-plane"}]
    nodes += [{"name": f"w{number}", "address": f"192.168.1.{10 + number}"} for number in range(1, count)]
    return pl.load({"name": "paper", "cluster": {"distribution": "kubeadm", "version": OLD, "nodes": nodes}})


def driver(world: World, *, dry_run: bool = False) -> Kubeadm:
    """The driver of a world's machines, as a new process has it."""
    made = Kubeadm(settings(len(world.nodes)), Path("/bundle"), dry_run=dry_run)
    made.__dict__["machines"] = {machine.name: machine for machine in world.machines(dry_run=dry_run)}
    made.__dict__["bundled"] = Program(Path("/bundle"), NEW, "x86_64")
    return made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for name in ("READY", "RESTART"):
        monkeypatch.setattr(upgrade, name, 0.01)
    facts = {name: replace(fit("k3s-master"), node=name) for name in ("c", "w1", "w2")}
    monkeypatch.setattr("platformlib.clusters.kubeadm.cluster.facts", lambda machine: facts[machine.name])


State = dict[str, tuple[str, bool, dict[str, str]]]
MOVED: State = dict.fromkeys(("c", "w1", "w2"), (NEW, False, {}))
STAYED: State = dict.fromkeys(("c", "w1", "w2"), (OLD, False, {}))


def test_an_upgrade_moves_every_node_drained_after_a_snapshot_and_a_second_does_nothing() -> None:
    world = World()
    rows = driver(world).upgrade(NEW)
    assert (world.state(), world.api, world.recorded, world.snapshots) == (MOVED, NEW, NEW, [OLD])
    assert world.faults == []
    assert list(rows.query("changed and step == 'node'")["node"]) == ["c", "w1", "w2"]
    again = driver(world).upgrade(NEW)
    assert again.query("changed").empty, again.to_string()
    assert world.snapshots == [OLD]


def test_a_rollback_goes_back_and_a_second_is_refused() -> None:
    world = World()
    driver(world).upgrade(NEW)
    driver(world).rollback()
    assert (world.state(), world.api, world.recorded, world.faults) == (STAYED, OLD, OLD, [])
    with pytest.raises(ClusterError, match=f"no snapshot of a version before {OLD}"):
        driver(world).rollback()


def move(world: World, *, back: bool) -> None:
    made = driver(world)
    made.rollback() if back else made.upgrade(NEW)


@pytest.mark.parametrize("answered", [False, True], ids=["before it ran", "after it ran"])
@pytest.mark.parametrize("back", [False, True], ids=["upgrade", "rollback"])
def test_interrupted_at_any_command_it_continues_and_leaves_no_node_cordoned(answered: bool, back: bool) -> None:
    cut = 0
    while cut := cut + 1:
        world = World()
        if back:
            driver(world).upgrade(NEW)
        world.commands, world.cut, world.answered = 0, cut, answered
        try:
            move(world, back=back)
        except NodeError:
            world.cut = 0
            with suppress(ClusterError):  # a rollback that was cut off after its last change has nothing left to do
                move(world, back=back)
        else:
            break
        assert world.state() == (STAYED if back else MOVED), cut
        assert world.faults == [], cut
    assert cut > 30


def test_a_node_that_an_interrupted_upgrade_has_cordoned_is_given_back_by_the_next_install() -> None:
    world = World()
    world.nodes["w1"].cordoned, world.nodes["w1"].annotations = True, {CORDONED: NEW}
    world.nodes["w2"].cordoned = True
    assert upgrade.release(driver(world).kubectl)
    assert (world.nodes["w1"].cordoned, world.nodes["w1"].annotations) == (False, {})
    assert world.nodes["w2"].cordoned


def test_a_node_that_the_user_had_cordoned_stays_cordoned() -> None:
    world = World()
    world.nodes["w1"].cordoned = True
    world.faults.clear()
    driver(world).upgrade(NEW)
    assert world.state()["w1"] == (NEW, True, {})


def test_a_drain_that_is_refused_gives_the_node_back_and_exchanges_nothing() -> None:
    world = World()
    world.refuses_drain = {"w1"}
    with pytest.raises(ClusterError, match=r"(?s)w1 could not be drained.*disruption budget.*poddisruptionbudgets"):
        driver(world).upgrade(NEW)
    assert world.state() == {"c": (NEW, False, {}), "w1": (OLD, False, {}), "w2": (OLD, False, {})}


def test_a_kubelet_that_does_not_come_up_is_put_back_and_later_nodes_are_not_touched() -> None:
    world = World()
    world.breaks = {"w1"}
    with pytest.raises(ClusterError, match="w1 is not ready"):
        driver(world).upgrade(NEW)
    assert world.state() == {"c": (NEW, False, {}), "w1": (OLD, False, {}), "w2": (OLD, False, {})}
    assert world.nodes["w1"].ready


def test_a_control_plane_that_an_upgrade_broke_is_brought_back_by_a_rollback() -> None:
    world = World()
    world.breaks_api = True
    with pytest.raises(CommandFailed, match="timed out"):
        driver(world).upgrade(NEW)
    with pytest.raises(ClusterError, match=r"the API server is not ready(.|\n)*rollback\(\)"):
        driver(world).upgrade(NEW)
    driver(world).rollback()
    assert (world.healthy, world.api, world.state()) == (True, OLD, STAYED)


def test_an_unhealthy_cluster_is_not_touched() -> None:
    world = World()
    world.nodes["w2"].ready = False
    with pytest.raises(ClusterError, match="before anything was changed, the cluster is not healthy"):
        driver(world).upgrade(NEW)
    assert (world.api, world.snapshots, world.nodes["c"].programs) == (OLD, [], {OLD})


@pytest.mark.parametrize("workers", [(), ("w1",)])
def test_a_node_whose_pods_have_nowhere_to_go_is_not_drained(workers: tuple[str, ...]) -> None:
    world = World(workers)
    said: list[str] = []
    driver(world).upgrade(NEW, said.append)
    assert list(world.state().values()) == [(NEW, False, {})] * len(world.nodes)
    last = workers[-1] if workers else "c"
    assert f"{last}: not drained, as no other node could take its pods" in said


def test_a_dry_run_says_what_it_would_do_and_changes_nothing() -> None:
    world = World()
    table = driver(world, dry_run=True).upgrade(NEW)
    assert (
        list(table["action"]) == ["would save etcd", f"would go to {NEW}"] + [f"would be drained, {OLD} to {NEW}"] * 3
    )
    assert (world.state(), world.snapshots) == (STAYED, [])
    driver(world).upgrade(NEW)
    assert set(driver(world, dry_run=True).rollback()["action"]) >= {f"would be drained, {NEW} to {OLD}"}
    assert world.state() == MOVED


def test_another_version_or_architecture_than_the_bundles_is_refused_before_anything_is_touched() -> None:
    world = World()
    with pytest.raises(ClusterError, match=f"the bundle has Kubernetes {NEW}, v1.35.9 is wanted"):
        driver(world).upgrade("v1.35.9")
    seen = {"w1": replace(fit("k3s-master"), node="w1", architecture="aarch64")}
    with pytest.raises(NodeError, match="w1: it is aarch64, the bundle x86_64"):
        Program(Path("/bundle"), OLD, "x86_64").refuse(OLD, seen)
    other = {"w1": replace(fit("k3s-master"), node="w1", kubelet_path="/usr/bin/kubelet")}
    with pytest.raises(NodeError, match="w1: another installer's kubelet is at /usr/bin/kubelet"):
        Program(Path("/bundle"), OLD, "x86_64").refuse(OLD, other)
    assert (world.state(), world.snapshots, world.nodes["c"].programs) == (STAYED, [], {OLD})


def test_where_the_version_runs_already_no_bundle_is_asked_for() -> None:
    world = World()
    world.nodes["w1"].cordoned, world.nodes["w1"].annotations = True, {CORDONED: OLD}
    rows = driver(world).upgrade(OLD)
    assert list(rows.query("changed")["step"]) == ["release"]
    assert world.state() == STAYED
    same = {name: replace(fit("k3s-master"), node=name, kubelet=OLD) for name in world.nodes}
    assert driver(world)._needed(same, print) is None
    assert driver(world)._needed({**same, "c": replace(same["c"], kubelet="")}, print) is not None


def test_without_a_bundle_the_machines_must_have_the_version() -> None:
    seen = {"c": replace(fit("k3s-master"), node="c", kubelet="v1.35.1")}
    with pytest.raises(NodeError, match=f"c: kubelet is v1.35.1, {OLD} is wanted"):
        install.refuse(settings(1), seen, None)


def test_the_program_of_the_bundle_says_what_it_is(tmp_path: Path) -> None:
    (made := tmp_path / "program").write_bytes(
        b"\x7fELF".ljust(18, b"\0") + b"\xb7\0" + b"\0" * 40 + b"\tdep\tk8s.io/kubernetes\tv1.35.5\th1:x\n"
    )
    assert inspect(made) == Program(made, "v1.35.5", "aarch64")
    (other := tmp_path / "other").write_text("#!/bin/sh")
    with pytest.raises(ClusterError, match="no program of Kubernetes"):
        inspect(other)
    try:
        real = Bundle().binary("kubernetes")
    except PlatformError as error:
        pytest.skip(str(error))
    assert inspect(real).version == pl.versions.versions()["modules"]["kubernetes"]["version"]
