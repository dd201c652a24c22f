"""The target: how far it goes, what it judges, how it waits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import platformlib as pl
from platformlib.errors import CheckFailed, KubeError, PlatformError, RunbookError, SettingsError, WaitTimeout
from platformlib.settings import Settings
from platformlib.targets import Target, marker, members, pods, removal, resolve
from platformlib.targets.patience import until
from platformlib.targets.requests import requests
from platformlib.targets.steps import Timed, changes

LAB = Path(__file__).parents[2] / "parameters" / "lab.yaml"


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


def test_layers_after_the_last_one_are_left_out(settings: Settings) -> None:
    target = Target(settings, until="storage")
    left = target.layer("observability")
    assert left.apply().to_dict("records") == [
        {"part": "observability", "step": "apply", "left out": "it comes after `storage`"}
    ]
    assert "it comes after `storage`" in target.queries.cpu_by_node(window="1h").attrs["empty"]
    assert list(target.report()["step"]) == ["apply"]
    with pytest.raises(PlatformError, match="layer"):
        Target(settings, until="storrage")


def test_a_dry_run_on_nothing_does_nothing(settings: Settings) -> None:
    target = Target(settings, dry_run=True)
    steps = [target.cluster.install(), target.members.claim(), target.layer("storage").apply(), target.members.table()]
    assert ["left out" in step.columns for step in steps] == [True] * 4
    assert not target.kubeconfig.exists()


def test_what_was_done_is_kept_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    class Layer:
        def apply(self, *, on_event: Any = None) -> pd.DataFrame:
            on_event("working")
            return pd.DataFrame({"action": ["created", "unchanged", "deleted"]})

    history: list[Any] = []
    Timed(Layer(), "storage", history).apply()
    assert [(step.part, step.step, step.rows, step.changed) for step in history] == [("storage", "apply", 3, 2)]
    assert "working" in capsys.readouterr().out


CHANGES = [
    (pd.DataFrame({"action": ["unchanged", "absent", "kept"]}), 0),
    (pd.DataFrame({"changed": [True, False, True]}), 2),
    (pd.DataFrame({"ready": [True]}), 0),
    (None, 0),
]


@pytest.mark.parametrize(("result", "count"), CHANGES)
def test_counts_changes(result: Any, count: int) -> None:
    assert changes(result) == count


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
    found = members.checks(settings, node_table(settings, **changed), ready=True)
    assert {result.check for result in found if not result.ok} == failed


def test_waiting_names_who_is_missing(settings: Settings) -> None:
    nodes = node_table(settings, ready=False)
    assert members.unready(settings)(nodes) == "not Ready: k3s-worker1"
    assert members.absent(settings)(nodes.iloc[:1]) == "not a member yet: k3s-worker1, k3s-worker2"
    assert members.absent(settings)(nodes) == ""


def test_a_wait_ends_with_its_last_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformlib.targets.patience.EVERY", 0.001)
    left: Iterator[int | KubeError] = iter([KubeError("no answer"), 1, 0])

    def look() -> pd.DataFrame:
        if isinstance(now := next(left), KubeError):
            raise now
        return pd.DataFrame({"left": [now]})

    assert until(look, lambda found: "some left" if found["left"].any() else "", 5)["left"].tolist() == [0]
    with pytest.raises(WaitTimeout, match="after 0 s: one is missing"):
        until(pd.DataFrame, lambda _: "one is missing", 0)


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
    assert sum(not result.ok for result in marker.checks(pd.DataFrame(lines), "w")) == failed


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
        {"node": "n", "pods": 1, "cpu": 0.5, "cpu_share": 0.25, "memory": 512.0, "memory_share": 0.5}
    ]


def test_a_removal_wants_the_name_and_looks_for_what_is_left() -> None:
    kube: Any = None
    with pytest.raises(RunbookError, match='confirm="lab"'):
        removal.Removal(kube, "lab").confirm("")
    assert removal.Removal(kube, "lab").confirm("lab")["confirmed"].all()
    left = pd.DataFrame({"layer": ["storage", "cluster"], "objects": [2, 0], "kinds": ["Pod 2", ""]})
    assert [result.ok for result in removal.checks(left)] == [False, True]
    with pytest.raises(CheckFailed, match="storage"):
        pl_verify(left)


def pl_verify(left: pd.DataFrame) -> None:
    """As `Removal.verify` does it."""
    from platformlib.checks import verify

    verify(list(removal.checks(left)))
