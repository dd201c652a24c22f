"""The target: how far it goes, what it judges, how it waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pytest

import platformlib as pl
from platformlib.errors import (
    ClusterError,
    KubeError,
    PlatformError,
    RunbookError,
    SettingsError,
    WaitTimeout,
    WrongCluster,
)
from platformlib.kube import identity
from platformlib.settings import Settings
from platformlib.targets import Target, machines, marker, pods, removal, resolve
from platformlib.targets.pods import requests
from platformlib.targets.waiting import wait_until
from tests.notebooks.apiserver import Tape, kubeconfig, serving

ROOT = Path(__file__).parents[2]
LAB = ROOT / "parameters" / "lab.yaml"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The lab's, with no kubeconfig yet."""
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path))
    return pl.load(LAB)


@pytest.mark.parametrize("place", ["", "notebooks", "elsewhere"])
def test_a_path_holds_in_jupyterlab_and_in_papermill(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("notebooks", "parameters", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "parameters" / "lab.yaml").touch()
    monkeypatch.chdir(tmp_path / place)
    assert resolve("../parameters/lab.yaml", tmp_path / "notebooks").samefile(tmp_path / "parameters" / "lab.yaml")


@pytest.mark.parametrize("platform", [3, None, ["lab"], "nowhere.yaml", {"name": "lab"}])
def test_binding_refuses_what_is_no_platform(platform: object) -> None:
    with pytest.raises(SettingsError):
        pl.bind(platform)


def test_a_target_without_a_cluster_says_so(settings: Settings) -> None:
    card = Target(settings).touch().set_index("item")
    assert str(card.loc["API server", "cluster"]).startswith("none yet")
    assert (card.loc["platform", "parameters"], card.loc["platform", "cluster"]) == ("lab", "—")


def test_queries_without_a_layer_that_answers_are_empty_and_say_why(settings: Settings) -> None:
    empty = Target(settings, until="storage").queries.cpu_by_node(window="1h")
    assert empty.empty
    assert "not worked on" in empty.attrs["empty"]


@pytest.fixture
def nowhere(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A dry run whose machines have no cluster."""
    target = Target(settings, dry_run=True)

    def absent() -> None:
        raise ClusterError("k3s-master has no cluster yet")

    monkeypatch.setattr(target.cluster.driver, "kubeconfig", absent)
    return target


def test_a_dry_run_without_a_cluster_plans_every_layer(nowhere: Target) -> None:
    assert nowhere.members.claim().set_index("item").loc["platform", "cluster"] == "—"
    assert nowhere.members.wait(timeout=60).empty
    assert not nowhere.members.verify()["ok"].all()
    for name in nowhere.settings.layers:
        layer = nowhere.layer(name)
        assert set(layer.apply()["action"]) == {"created"}
        layer.wait()
        layer.verify()
    assert nowhere.report()["changed"].sum() > 0
    assert not nowhere.kubeconfig.exists()


def test_layers_after_the_last_one_are_skipped(nowhere: Target) -> None:
    nowhere.until = "cluster"
    left = nowhere.layer("observability")
    assert left.apply().to_dict("records") == [
        {"part": "observability", "step": "apply", "skipped": "it comes after `cluster`"}
    ]
    assert "dry run" in nowhere.queries.cpu_by_node(window="1h").attrs["empty"]
    assert list(nowhere.report()["step"]) == ["apply"]
    with pytest.raises(PlatformError, match="layer"):
        Target(nowhere.settings, until="clustre")


def test_the_machines_of_a_dry_run_cannot_be_changed(settings: Settings) -> None:
    driver: Any = Target(settings, dry_run=True).cluster.driver
    assert all(machine.dry_run for machine in driver.machines.values())


def test_machines_that_are_not_wanted_are_left_alone(settings: Settings) -> None:
    left = Target(settings).machines(wanted=False)
    tables = [left.install(), left.join(), left.upgrade("v1.36.0"), left.uninstall(), left.preflight()]
    assert {table["skipped"].item() for table in tables} == {"`machines` is False"}


def test_go_to_definition_leads_to_the_code() -> None:
    """Every tool of a target is an object of the class that does the work, with no stand-in between."""
    from platformlib.layers import Installed

    hints = get_type_hints(Target.layer, localns={"Installed": Installed})
    assert hints["return"] is Installed
    for module in (ROOT / "platformlib" / "targets").glob("*.py"):
        assert "__getattr__" not in module.read_text("utf-8"), module.name


def node_table(settings: Settings, **changed: Any) -> pd.DataFrame:
    """The nodes of the lab as they should be, but for the changes to the second."""
    rows = [
        {
            "node": node.name,
            "role": node.role,
            "ready": True,
            "version": settings.cluster.version,
            "address": str(node.address),
        }
        for node in settings.cluster.nodes
    ]
    rows[1] |= changed
    return pd.DataFrame(rows)


BAD_NODES = [
    ({"version": "v1.34.0"}, {"member k3s-worker1"}),
    ({"role": "control-plane"}, {"member k3s-worker1"}),
    ({"address": "192.168.1.9"}, {"member k3s-worker1"}),
    ({"node": "stranger"}, {"member k3s-worker1", "no other members"}),
    ({"ready": False}, {"all Ready"}),
    ({}, set()),
]


@pytest.mark.parametrize(("changed", "failed"), BAD_NODES)
def test_members_are_judged(settings: Settings, changed: dict[str, Any], failed: set[str]) -> None:
    found = machines.checks(settings, node_table(settings, **changed), ready=True)
    assert {result.check for result in found if not result.ok} == failed


def test_waiting_names_who_is_missing(settings: Settings) -> None:
    nodes = node_table(settings, ready=False)
    assert machines.unready(settings)(nodes) == "not Ready: k3s-worker1"
    assert machines.absent(settings)(nodes.iloc[:1]) == "not a member yet: k3s-worker1, k3s-worker2"
    assert machines.absent(settings)(nodes) == ""


def test_a_wait_ends_with_its_last_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformlib.targets.waiting.INTERVAL", 0.001)
    left: Iterator[int | KubeError] = iter([KubeError("no answer"), 1, 0])

    def look() -> pd.DataFrame:
        if isinstance(now := next(left), KubeError):
            raise now
        return pd.DataFrame({"left": [now]})

    assert wait_until(look, lambda found: "some left" if found["left"].any() else "", 5)["left"].tolist() == [0]
    with pytest.raises(WaitTimeout, match="after 0 s: one is missing"):
        wait_until(pd.DataFrame, lambda _: "one is missing", 0)


def pod(**changed: Any) -> dict[str, Any]:
    """A row of the pods' table."""
    row = {"namespace": "x", "pod": "a", "node": "n", "phase": "Running", "ready": "1/1", "restarts": 0, "reason": ""}
    return row | changed


BAD_PODS = [
    ({}, set()),
    ({"phase": "Succeeded", "ready": "0/1"}, set()),
    ({"ready": "0/1"}, {"pods of x"}),
    ({"phase": "Pending", "reason": "ImagePullBackOff"}, {"pods of x"}),
    ({"phase": "Failed"}, {"pods of x"}),
    ({"restarts": 6}, {"restarts"}),
]


@pytest.mark.parametrize(("changed", "failed"), BAD_PODS)
def test_pods_are_judged(changed: dict[str, Any], failed: set[str]) -> None:
    found = pods.checks(pd.DataFrame([pod(), pod(pod="b", **changed)]), restarts=5)
    assert {result.check for result in found if not result.ok} == failed


LINE = {"line": "level=info msg=w", "namespace": "observability", "container": "marker", "app": "marker",
        "stream": "stdout", "pod": "w-1", "node": "n"}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        ([LINE], 0),
        ([LINE, LINE], 1),
        ([LINE | {"line": "level=info"}], 1),
        ([LINE | {"app": "loki"}], 1),
        ([{key: value for key, value in LINE.items() if key != "node"}], 1),
        ([], 8),
    ],
)
def test_the_marker_is_judged(lines: list[dict[str, str]], failed: int) -> None:
    assert sum(not result.ok for result in marker.checks(pd.DataFrame(lines), "w", "observability")) == failed


def test_each_marker_is_new() -> None:
    assert marker.Marker.word() != marker.Marker.word()


class Cluster:
    """Stands for a Kube that only lists."""

    def __init__(self, **objects: list[Any]) -> None:
        self.objects = objects

    def list(self, _: str, kind: str) -> list[Any]:
        return self.objects[kind]


def test_requests_are_shares_of_what_is_allocatable() -> None:
    asked = {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}
    busy = {"spec": {"nodeName": "n", "containers": [asked, {}]}, "status": {"phase": "Running"}}
    done = busy | {"status": {"phase": "Succeeded"}}
    node = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}
    found: Any = requests(Cluster(Pod=[busy, done], Node=[node]))  # type: ignore[arg-type]
    assert found.to_dict("records") == [
        {"node": "n", "pods": 1, "cpu": 0.5, "cpu_share": 0.25, "memory": 512.0 * 2**20, "memory_share": 0.5}
    ]


HELD = pd.DataFrame(
    [["PersistentVolumeClaim", "observability", "storage-loki-0", "observability/storage-loki-0", 1, 1, 2**31, "kept"]],
    columns=["kind", "namespace", "name", "delete_data", "objects", "claims", "bytes", "fate"],
)


def test_a_removal_wants_the_name_and_keeps_data(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = removal.Removal(Target(settings))
    monkeypatch.setattr(gone, "data", lambda named=(): HELD.assign(fate="deleted" if named else "kept"))
    with pytest.raises(RunbookError, match='confirm="lab"'):
        gone.confirm("")
    assert list(gone.confirm("lab")["fate"]) == ["kept"]
    with pytest.raises(RunbookError, match=r"(?s)would go with its machines.*observability/storage-loki-0"):
        gone.confirm("lab", machines=True)
    assert list(gone.confirm("lab", machines=True, delete_data=["observability"])["fate"]) == ["deleted"]


def test_a_removal_looks_for_what_is_left() -> None:
    left = pd.DataFrame({"layer": ["storage", "cluster"], "objects": [2, 0], "kinds": ["Pod 2", ""]})
    assert [result.ok for result in removal.checks(left)] == [False, False]
    assert [result.ok for result in removal.checks(left[left["objects"] == 0])] == [True]


IDENTITIES = [
    ({"name": "other"}, "carries the platform 'other'"),
    ({"name": "lab", "uid": "elsewhere", "distribution": "kubeadm"}, "uid elsewhere"),
    ({"name": "lab", "uid": "here", "distribution": "k3s"}, "k3s"),
    ({}, ""),
    ({"name": "lab"}, ""),
    ({"name": "lab", "uid": "here", "distribution": "kubeadm"}, ""),
]


@pytest.mark.parametrize(("mark", "refusal"), IDENTITIES)
def test_a_target_refuses_the_cluster_of_another(mark: dict[str, str], refusal: str, settings: Settings) -> None:
    with fake_server({"/api/v1/namespaces/kube-system/configmaps/platformlib": mark}) as url:
        write_kubeconfig(settings, url)
        if refusal:
            with pytest.raises(WrongCluster, match=refusal):
                Target(settings).touch()
        else:
            card = Target(settings).touch().set_index("item")["cluster"]
            assert card["platform"] == mark.get("name", "not claimed yet")


def test_a_verb_that_changes_machines_is_refused_on_the_cluster_of_another(settings: Settings) -> None:
    with fake_server({"/api/v1/namespaces/kube-system/configmaps/platformlib": {"name": "other"}}) as url:
        write_kubeconfig(settings, url)
        cluster = Target(settings).cluster
        for verb in (cluster.install, cluster.join, cluster.uninstall, lambda: cluster.upgrade("v1.36.0")):
            with pytest.raises(WrongCluster, match="other"):
                verb()


@pytest.mark.parametrize("verb", ["uninstall", "upgrade"])
def test_a_silent_server_is_a_no(verb: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformlib.targets.card.RETRY_TIMEOUT", 0.1)
    write_kubeconfig(settings, "http://127.0.0.1:1")
    cluster = Target(settings).cluster
    with pytest.raises(KubeError, match="does not answer"):
        cluster.uninstall() if verb == "uninstall" else cluster.upgrade("v1.36.0")


def test_a_rebuilt_cluster_may_be_claimed_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machines answer and have no cluster: what is remembered of the old one is dropped before the new is made."""
    identity.remember(identity.Identity(settings.name, "old", "kubeadm"))
    cluster = Target(settings).cluster

    def absent() -> None:
        raise ClusterError("k3s-master has no cluster yet")

    monkeypatch.setattr("platformlib.lab.require_machines", lambda _: None)
    monkeypatch.setattr(cluster.driver, "install", lambda _: pd.DataFrame({"changed": [True]}))
    monkeypatch.setattr(cluster.driver, "kubeconfig", lambda: settings)
    cluster.install()
    assert identity.recall(settings.name) is not None
    monkeypatch.setattr(cluster.driver, "kubeconfig", absent)
    cluster.install()
    assert identity.recall(settings.name) is None


def write_kubeconfig(settings: Settings, url: str) -> None:
    """The platform's kubeconfig, leading to a server on loopback."""
    kubeconfig(Target(settings).kubeconfig, url, settings.name)


@contextmanager
def fake_server(marks: dict[str, dict[str, str]]) -> Iterator[str]:
    """An API server with one ConfigMap; its kube-system has the uid `here`."""
    answers: dict[str, Any] = {
        "GET /api/v1?": {"resources": [
            {"name": name, "kind": kind, "namespaced": name == "configmaps", "verbs": ["get", "list"]}
            for name, kind in {"configmaps": "ConfigMap", "namespaces": "Namespace", "nodes": "Node"}.items()
        ]},
        "GET /api/v1/namespaces/kube-system?": {"metadata": {"name": "kube-system", "uid": "here"}},
        "GET /api/v1/nodes?limit=500": {"items": [], "metadata": {}},
        "GET /version?": {"gitVersion": "v1.35.4"},
    }  # fmt: skip
    named = {"name": "platformlib", "namespace": "kube-system"}
    answers |= {f"GET {path}?": {"metadata": named, "data": data} for path, data in marks.items() if data}
    with serving(Tape({asked: [(200, answer)] for asked, answer in answers.items()})) as url:
        yield url
