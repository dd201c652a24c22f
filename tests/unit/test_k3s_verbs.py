"""What the driver concludes from what machines say: journals, pods, members, snapshots; and the order of its steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from platformlib.clusters.k3s import K3s, cluster, host, maintain, members, remove, rollback, service, snapshots
from platformlib.clusters.k3s.kubectl import Kubectl, Pod, _member
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.snapshots import Snapshot
from platformlib.clusters.k3s.state import NOTHING, State
from platformlib.clusters.k3s.tasks import plan
from platformlib.errors import ClusterError, CommandFailed, DryRunRefused, NodeError, NodeUnreachable
from platformlib.machines import Completed, Machine
from tests.unit.test_k3s_config import ONE, THREE, platform


class Scripted(Machine):
    """Answers a command by the first pair of `said` whose words are in it."""

    def __init__(self, name: str, said: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(name, "192.168.1.201", **options)
        self.said, self.asked = said, list[str]()

    def _execute(self, argv: Any, source: Any, timeout: float, *, sink: Any = None) -> Completed:  # noqa: ARG002
        line = " ".join(argv)
        self.asked.append(line)
        for words, answer in self.said:
            if words in line:
                return Completed(0, answer, "") if answer != "FAILS" else Completed(1, "", "NotFound")
        raise AssertionError(f"nothing is said of {line[:200]}")


REFUSED = 'time="2026-11-24T10:00:00Z" level=error msg="Sending HTTP 401 response to 192.168.1.203:5: not authorized"'
OWN = 'time="x" level=error msg="Failed to validate connection to cluster at https://a:6443: 401 Unauthorized"'


@pytest.mark.parametrize(
    ("journal", "words"),
    [
        (REFUSED, ""),
        ('time="x" level=error msg="http: TLS handshake error from 192.168.1.9:1: 401 Unauthorized"', ""),
        (OWN, "a server refused this machine's token"),
        ('time="x" level=error msg="token is not valid: https://a:6443/apis: 401 Unauthorized"', "refused"),
        ('time="x" level=fatal msg="starting kubernetes: preparing server: 401 Unauthorized"', "refused"),
        ('time="x" level=info msg="Failed to validate connection: 401 Unauthorized"', ""),
        ('time="x" level=fatal msg="etcd cluster join failed: duplicate node name found"', "another member"),
        ('time="x" level=fatal msg="flag provided but not defined: -x"', "does not know that option"),
        ("E1124 10:00:00.1 99 a.go:1] Node password rejected, duplicate hostname", "kubectl delete node"),
    ],
)
def test_only_what_a_machine_says_of_itself_ends_the_wait(journal: str, words: str) -> None:
    machine = Scripted("k3s-1", [("systemctl is-active", f"activating\n{journal}")])
    if words:
        with pytest.raises(NodeError, match=words):
            service._inactive(machine, "k3s", "")
    else:
        assert service._inactive(machine, "k3s", "").startswith("activating; ")


@pytest.mark.parametrize("journal", [REFUSED, OWN, 'level=fatal msg="address already in use"'])
def test_a_service_that_is_active_is_active_whatever_its_journal_says(journal: str) -> None:
    assert service._inactive(Scripted("k3s-1", [("is-active", f"active\n{journal}")]), "k3s", "") == ""


def test_no_token_leaves_a_journal() -> None:
    line = 'level=error msg="K10deadbeef::server:s3cr3t refused, token=s3cr3t"'
    assert service.own_errors(line) == ["<token> refused, token=<token>"]


def test_a_start_is_refused_while_a_restore_holds_the_machine() -> None:
    machine = Scripted("k3s-1", [("show-cursor", "held rollback 2026-a")])
    with pytest.raises(
        ClusterError, match=r"held by an interrupted rollback 2026-a\n  fix: run rollback\('2026-a'\) again"
    ):
        service.settle(machine, "control-plane")
    assert "systemctl restart" not in machine.asked[0].split("held")[0]


def test_options_that_k3s_skips_fail_the_step() -> None:
    said = [("show-cursor", "same x"), ("is-active", "active\n"),
            ("Unknown flag", "MainPID=7\nNRestarts=0\nStarted=100\nUnknown=enable-pprof\nUnknown=x\n")]  # fmt: skip
    with pytest.raises(NodeError, match="does not know: enable-pprof, x"):
        service.settle(Scripted("k3s-1", said), "worker")


@pytest.mark.parametrize(
    ("beat", "old"),
    [
        ("2026-11-24T10:00:00.900000Z", True),  # the process before this one may have sent it
        ("2026-11-24T10:00:01.100000Z", False),
        ("2026-11-24T09:59:59.000000Z", True),
    ],
)
def test_a_heartbeat_from_before_the_start_proves_nothing(beat: str, old: bool) -> None:
    started = pd.Timestamp("2026-11-24T10:00:00Z").timestamp()
    machine = Scripted("k3s-1", [("get lease k3s-1", json.dumps({"spec": {"renewTime": beat}}))])
    assert bool(service._silent(Kubectl(machine), "k3s-1", started)) is old


def test_the_pod_that_proves_a_node_is_let_in_everywhere() -> None:
    """It is on that node whatever its taints, asks for nothing, and ends by itself."""
    said = [("crictl images", json.dumps({"images": [{"repoTags": ["reg.home/rancher/mirrored-pause:3.10"]}]}))]
    assert service.pause_image(Scripted("a", said)) == "reg.home/rancher/mirrored-pause:3.10"
    assert service.pause_image(Scripted("a", [("crictl images", "FAILS")])) == service.PAUSE_IMAGE
    from platformlib.clusters.k3s.kubectl import probe

    spec = probe("k3s-1", "pause")["spec"]
    assert (spec["nodeName"], spec["tolerations"]) == ("k3s-1", [{"operator": "Exists"}])
    assert spec["activeDeadlineSeconds"]
    assert spec["containers"][0]["securityContext"]["runAsNonRoot"]


def pod(name: str, *, owner: str = "", phase: str = "Running", empty: bool = False) -> dict[str, Any]:
    owners = [{"kind": owner, "controller": True}] if owner else []
    volumes = [{"name": "cache", "emptyDir": {}}] if empty else []
    meta = {"name": name, "namespace": "shop", "ownerReferences": owners}
    return {"metadata": meta, "spec": {"volumes": volumes}, "status": {"phase": phase}}


def test_what_a_drain_would_lose() -> None:
    items = [
        pod("bare"), pod("agent", owner="DaemonSet"), pod("mirror", owner="Node"), pod("done", phase="Succeeded"),
        pod("web", owner="ReplicaSet"), pod("cache", owner="ReplicaSet", empty=True),
    ]  # fmt: skip
    machine = Scripted("k3s-1", [("get pods", json.dumps({"items": items}))])
    assert Kubectl(machine).pods("k3s-2") == [
        Pod("shop", "bare", "the pod"), Pod("shop", "web", ""), Pod("shop", "cache", "emptyDir cache"),
    ]  # fmt: skip
    with pytest.raises(ClusterError, match="nothing would start again: shop/bare; nothing was evicted"):
        Kubectl(machine).drain("k3s-2")
    assert not [line for line in machine.asked if " drain " in line]


@pytest.mark.parametrize("force", [False, True])
def test_force_is_given_only_when_asked_for(force: bool) -> None:
    machine = Scripted("k3s-1", [("get pods", '{"items": []}'), ("kubectl drain", "")])
    Kubectl(machine).drain("k3s-2", force=force)
    assert ("--force" in machine.asked[-1]) is force


def test_a_node_as_the_api_has_it() -> None:
    node = {
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"unschedulable": True, "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "False", "message": "no network"},
                {"type": "EtcdIsVoter", "status": "False"},
            ]
        },
    }
    member = _member(node)
    assert (member.ready, member.cordoned, member.cause) == (False, True, "no network")
    assert (member.taints, member.voter) == (frozenset({"k=v:NoSchedule"}), False)
    assert (_member({"metadata": {"name": "new"}}).cause, _member({"metadata": {"name": "new"}}).voter) == (
        "never reported", None,
    )  # fmt: skip


def test_etcd_that_cannot_be_asked_is_not_an_etcd_without_members() -> None:
    assert Kubectl(Scripted("a", [("/db/info", "FAILS")])).etcd() == []  # NotFound: SQLite

    class Silent(Scripted):
        def _execute(self, argv: Any, source: Any, timeout: float, *, sink: Any = None) -> Completed:  # noqa: ARG002
            return Completed(1, "", "etcdserver: request timed out")

    with pytest.raises(CommandFailed, match="timed out"):
        Kubectl(Silent("a", [])).etcd()


def etcd(*names: str, learner: str = "") -> str:
    return json.dumps({"members": [
        {"ID": 1, "name": f"{name}-0badcafe", "peerURLs": ["https://a:2380"], "isLearner": name == learner}
        for name in names
    ]})  # fmt: skip


def nodes(**ready: bool) -> str:
    return json.dumps({"items": [
        {"metadata": {"name": name.replace("_", "-")}, "status": {"conditions": [{"type": "Ready", "status": str(it)}]}}
        for name, it in ready.items()
    ]})  # fmt: skip


SERVER = State(**{**vars(NOTHING), "etcd": True, "owner": "home", "version": "v1.35.4+k3s1", "active": True})


def seats(said: list[tuple[str, str]], *names: str, state: State = SERVER) -> list[Seat]:
    listed = platform({"nodes": THREE}).cluster.nodes
    return [Seat(Scripted(node.name, said), node, state) for node in listed if node.name in names]


@pytest.mark.parametrize(
    ("members_now", "ready", "names", "words"),
    [
        (("k3s-1", "k3s-2", "k3s-3"), {"k3s_1": True, "k3s_2": True, "k3s_3": True}, ["k3s-3"], ""),
        (("k3s-1", "k3s-2", "k3s-3"), {"k3s_1": True, "k3s_2": True, "k3s_3": False}, ["k3s-3"], ""),
        (
            ("k3s-1", "k3s-2", "k3s-3"), {"k3s_1": True, "k3s_2": False, "k3s_3": True}, ["k3s-3"],
            "without k3s-3, 1 of 3 servers would run: no quorum",
        ),
        (
            ("k3s-1", "k3s-2", "k3s-3"), {"k3s_1": True, "k3s_2": True, "k3s_3": True}, ["k3s-2", "k3s-3"],
            "without k3s-3, 1 of 2 servers would run: no quorum",
        ),
        (("k3s-1", "k3s-2"), {"k3s_1": True, "k3s_2": True}, ["k3s-2"], "without k3s-2, 1 of 2"),
        (("k3s-1", "k3s-9"), {"k3s_1": True}, ["k3s-3"], "without a node: k3s-9-0badcafe"),
    ],
)  # fmt: skip
def test_a_server_leaves_only_where_a_majority_stays(
    members_now: tuple[str, ...], ready: dict[str, bool], names: list[str], words: str
) -> None:
    said: list[tuple[str, str]] = [
        ("/readyz", "ok"), ("/db/info", etcd(*members_now)), ("get nodes", nodes(**ready)),
    ]  # fmt: skip
    there = seats(said, "k3s-1", "k3s-2", "k3s-3")
    if words:
        with pytest.raises(ClusterError, match=words):
            remove.refuse(there, names, [])
    else:
        assert remove.refuse(there, names, []).node.name == "k3s-1"


def test_a_server_that_is_joining_is_waited_for() -> None:
    said: list[tuple[str, str]] = [
        ("/readyz", "ok"), ("/db/info", etcd("k3s-1", "k3s-2", learner="k3s-2")), ("get nodes", nodes(k3s_1=True)),
    ]  # fmt: skip
    with pytest.raises(ClusterError, match="k3s-2-0badcafe is still joining etcd"):
        remove.refuse(seats(said, "k3s-1"), ["k3s-2"], [])


def test_a_node_that_is_alive_but_not_reached_from_here_is_not_deleted() -> None:
    said: list[tuple[str, str]] = [("/readyz", "ok"), ("get nodes", nodes(k3s_1=True, k3s_4=True))]
    with pytest.raises(ClusterError, match="k3s-4 does not answer here, but it is a Ready node"):
        remove.refuse(seats(said, "k3s-1"), ["k3s-4"], ["k3s-4"])


def steps(phases: list[list[Any]]) -> list[tuple[str, ...]]:
    return [(phase[0].step, *(task.machine.name for task in phase)) for phase in phases]


def test_a_server_is_stopped_before_its_node_is_deleted() -> None:
    speaker, leaver = seats([], "k3s-1", "k3s-3")
    found = remove.leaving(leaver, speaker, reached=True, force=False, data=())
    assert [step for step, *_ in steps(found)] == ["drain", "stop", "delete", "etcd", "remove"]
    gone = remove.leaving(Seat(leaver.machine, leaver.node, NOTHING), speaker, reached=False, force=False, data=())
    assert [step for step, *_ in steps(gone)] == ["delete", "etcd"]


CHOSEN = Snapshot(1, "20261124T100000Z-v1.34.9+k3s1-ab", "platformlib", "etcd", "v1.34.9+k3s1", 9, "/s", "k3s-2")


def test_a_rollback_holds_every_machine_before_it_stops_any() -> None:
    there = seats([], "k3s-1", "k3s-2", "k3s-3", "k3s-4")
    first = rollback.first(there, CHOSEN)
    assert first.node.name == "k3s-2"  # which has the snapshot
    found = steps(rollback.phases(there, first, CHOSEN, CHOSEN.version, platform({"nodes": THREE})))
    assert found[:6] == [
        ("hold", "k3s-2"), ("hold", "k3s-1", "k3s-3", "k3s-4"), ("stop", "k3s-4"), ("stop", "k3s-2", "k3s-1", "k3s-3"),
        ("binary", "k3s-2", "k3s-1", "k3s-3", "k3s-4"), ("restore", "k3s-2"),
    ]  # fmt: skip
    assert found[6:] == [
        ("start", "k3s-2"), ("rejoin", "k3s-1"), ("rejoin", "k3s-3"), ("start", "k3s-4"),
        ("tidy", "k3s-1"), ("tidy", "k3s-3"), ("tidy", "k3s-2"),
    ]  # fmt: skip


def test_a_rollback_that_was_cut_off_after_the_restore_does_not_restore_again() -> None:
    restored = State(**{**vars(SERVER), "restored": CHOSEN.id})
    there = [*seats([], "k3s-1"), *seats([], "k3s-3", state=restored)]
    first = rollback.first(there, CHOSEN)
    assert first.node.name == "k3s-3"
    found = steps(rollback.phases(there, first, CHOSEN, CHOSEN.version, platform({"nodes": THREE})))
    assert found == [("start", "k3s-3"), ("rejoin", "k3s-1"), ("tidy", "k3s-1"), ("tidy", "k3s-3")]


def test_the_scripts_of_a_restore() -> None:
    """The reset has a copy of the configuration without the peer, and never looks into the bucket for a local file."""
    assert "--etcd-s3=$s3" in rollback.ETCD
    assert "--config /var/lib/platformlib/k3s/reset.yaml" in rollback.ETCD
    assert "50-peer.yaml ]; then cp" in rollback.ETCD
    assert "rm -f /etc/rancher/k3s/config.yaml.d/50-peer.yaml" not in rollback.ETCD
    for script in (rollback.ETCD, rollback.SQLITE, rollback.AWAY):
        assert "rm -rf /var/lib/rancher/k3s/server/db" not in script
        assert "server/db/snapshots" not in script
    assert "ConditionPathExists=!/etc/platformlib/k3s.hold" in host.UNIT


def test_snapshots_are_named_with_their_age_and_none_is_chosen_by_itself() -> None:
    import time

    now = int(time.time())
    known = [
        Snapshot(now - 7200, "b", "platformlib", "etcd", "v1.35.4+k3s1", 2048, "/x", "k3s-2"),
        Snapshot(now - 7200, "b", "platformlib", "etcd", "v1.35.4+k3s1", 2048, "/y", snapshots.HERE),
        Snapshot(now - 300_000, "a", "k3s", "etcd", "", 1024, "/z", "k3s-1"),
    ]
    with pytest.raises(
        ClusterError, match=r"never chosen for you\n  b  2 h old, 2048 KiB, etcd v1.35.4\+k3s1\n  a  3 d old"
    ):
        snapshots.choose(known, "")
    with pytest.raises(ClusterError, match="no snapshot c"):
        snapshots.choose(known, "c")
    assert snapshots.choose(known, "b").node == "k3s-2"  # on a server before elsewhere
    with pytest.raises(ClusterError, match="there is no snapshot"):
        snapshots.choose([], "b")


def test_snapshots_as_a_server_and_a_bucket_list_them() -> None:
    listed = (
        "platformlib 2026-v1.35.4+k3s1-ab etcd v1.35.4+k3s1 1700000000 12 /var/lib/p/2026\n"
        "k3s etcd-snapshot-k3s-1-1700000100 etcd - 1700000100 9 /var/lib/rancher/x\n"
    )
    own, scheduled = snapshots.on_server(Scripted("k3s-1", [("du -sk", listed)]))
    assert (own.origin, own.version, scheduled.origin, scheduled.version) == ("platformlib", "v1.35.4+k3s1", "k3s", "")
    item = {
        "spec": {"snapshotName": "s", "location": "s3://b/f/s"},
        "status": {"creationTime": "2026-11-24T10:00:00Z", "size": "4096"},
    }
    local = {"spec": {"snapshotName": "t", "location": "file:///x/t"}, "status": {}}
    (found,) = snapshots.in_s3(Scripted("k3s-1", [("etcd-snapshot ls", json.dumps({"items": [item, local]}))]))
    assert (found.id, found.node, found.kib, found.path) == ("s", "s3", 4, "s")


def test_a_copy_of_a_snapshot_goes_to_another_server_and_never_to_an_agent(tmp_path: Path) -> None:
    settings = platform({"nodes": THREE})
    there = seats([], "k3s-1", "k3s-2", "k3s-4")
    table = plan(maintain.saving(there[0], "etcd", there, settings, tmp_path, restart=False))
    assert "to k3s-2" in table["action"].iloc[1]
    alone = seats([], "k3s-1", "k3s-4")
    table = plan(maintain.saving(alone[0], "etcd", alone, settings, tmp_path, restart=False))
    assert "to this host" in table["action"].iloc[1]


def test_what_uninstall_keeps_is_named_to_be_deleted() -> None:
    driver = K3s(platform({"nodes": ONE}))
    with pytest.raises(ClusterError, match="no such data: everything"):
        driver.uninstall(delete_data=["everything"])
    assert "rm -rf /var/lib/platformlib/k3s/snapshots" in remove.REMOVE.split('*" snapshots "*)')[1].split(";;")[0]


def fleet(driver: K3s, *machines: Scripted) -> K3s:
    driver.machines.clear()
    driver.machines.update({machine.name: machine for machine in machines})
    return driver


LOST = NodeUnreachable("k3s-2", "no answer")


def read_as(state: State) -> Callable[..., State]:
    def read(machine: Machine, *_: Any) -> State:
        if machine.name == "k3s-2":
            raise LOST
        return state

    return read


def test_a_cluster_is_not_taken_for_lost_because_its_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kubeconfig` tells "there is none" (ClusterError) from "it could not be asked" (NodeError)."""
    monkeypatch.setattr("platformlib.clusters.k3s.fleet.state", read_as(NOTHING))
    nodes_ = [{"name": "k3s-2", "address": "192.168.1.202", "role": "control-plane"},
              {"name": "k3s-1", "address": "192.168.1.201"}]  # fmt: skip
    driver = fleet(K3s(platform({"nodes": nodes_})), Scripted("k3s-2", []), Scripted("k3s-1", []))
    with pytest.raises(NodeUnreachable, match="k3s-2: may have the cluster"):
        driver.kubeconfig()
    with pytest.raises(ClusterError, match="no server has a cluster yet"):
        fleet(K3s(platform({"nodes": ONE})), Scripted("k3s-1", [])).kubeconfig()


def test_a_machine_of_another_platform_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformlib.clusters.k3s.fleet.state", read_as(State(**{**vars(SERVER), "owner": "work"})))
    driver = fleet(K3s(platform({"nodes": ONE})), Scripted("k3s-1", []))
    for verb in (driver.uninstall, driver.join, driver.snapshot):
        with pytest.raises(ClusterError, match=r"k3s-1: of another platform \(work\)"):
            verb()


def test_a_dry_handle_refuses_what_a_verb_would_do() -> None:
    """The table of a dry run is not the only thing between it and a change."""
    machine = Scripted("k3s-1", [], dry_run=True)
    seat = Seat(machine, platform({"nodes": ONE}).cluster.nodes[0], SERVER)
    for change in (
        lambda: service.settle(machine, "control-plane"),
        lambda: rollback.hold(seat, "x"),
        lambda: rollback.restore(seat, CHOSEN),
        lambda: snapshots.save(machine, "etcd", "v1", 3),
        lambda: remove.clean(machine, "home"),
        lambda: Kubectl(machine).delete("k3s-1"),
        lambda: members.tokens(machine, platform({"nodes": ONE})),
    ):
        with pytest.raises(DryRunRefused):
            change()
    assert machine.asked == []


def test_no_script_that_changes_a_machine_is_run_as_one_that_reads() -> None:
    """Each use of `run` and `shell` in the driver is one of those that are known to read."""
    import re

    folder = Path(cluster.__file__).parent
    found = {
        (path.stem, match[1])
        for path in folder.glob("*.py")
        for match in re.finditer(
            r"\b(?:machine|it|source|target)\.(?:run|shell)\(\s*([\w.\[\]\"*]+)", path.read_text("utf-8")
        )
    }
    reading = {
        ("cluster", '["test"'), ("host", "WRITE"), ("host", '["test"'), ("kubectl", "[*self.command"),
        ("maintain", "[layout.BINARY"), ("preflight", '["bash"'), ("remove", "LEFT"), ("rollback", "layout"),
        ("service", "LOOK"), ("service", "PROCESS"), ("service", "[layout.BINARY"), ("snapshots", "LIST"),
        ("snapshots", "S3LIST"), ("state", "READ"), ("upgrade", '["test"'),
    }  # fmt: skip
    assert found <= reading, found - reading
