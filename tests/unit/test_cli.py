"""The command line: what a person reads, and the status that a script gets."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from platformlib.cli import main, show
from platformlib.errors import CellFailed, CheckFailed, NodeUnreachable, ParameterError, PlatformError
from tests.notebooks.apiserver import OWNED, Tape, kubeconfig, serving

ROOT = Path(__file__).parents[2]
LAB = ROOT / "parameters" / "lab.yaml"


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line; its exit status."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PLATFORMLIB_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["platformlib", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


COMMANDS = ["", "run", "check", "install", "status", "diff", "claim", "uninstall", "queries", "lab", "lab check",
            "lab up", "lab status", "lab ssh", "lab down", "bundle", "bundle build", "bundle list",
            "bundle verify"]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *command.split(), "--help") == show.OK
    assert f"Usage: platformlib {command}".strip() in capfd.readouterr().out


def test_check_says_what_would_be_built(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "check", "-f", str(LAB)) == show.OK
    said = capfd.readouterr().out
    assert [
        word for word in ("platform lab: valid", "k3s-worker2", "192.168.1.203", "prometheus") if word not in said
    ] == []


REFUSED = {
    "a file that is not there": (["check", "-f", "nowhere.yaml"], "nowhere.yaml"),
    "an unknown notebook": (["run", "instal"], "install"),
    "an unknown parameter": (["run", "install", "-p", "untl=cluster"], "untl: unknown parameter"),
    "a broken file": (["run", "install", "-f", "nowhere.yaml"], "nowhere.yaml"),
    "an unknown option": (["check", "--nothing"], "--nothing"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, *words) == show.REFUSED
    told = capfd.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err + told.out


def test_all_faults_of_a_file_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("platform: {name: X_Y, cluster: {distribution: k9s}, typo: 1}", "utf-8")
    assert call(monkeypatch, "check", "-f", str(tmp_path / "bad.yaml")) == show.REFUSED
    said = capfd.readouterr().err
    assert [
        word
        for word in ("faults, nothing was touched", "name:", "cluster.distribution:", "typo: unknown key")
        if word not in said
    ] == []


def test_the_default_platform_is_that_of_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A command without -f means what the notebooks' default means, from any folder."""
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "check") == show.OK
    assert "platform lab: valid" in capfd.readouterr().out


@pytest.fixture
def existing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Tape]]:
    """A parameters file of a cluster that others installed, and what its API server is asked."""
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path / "state"))
    tape = Tape(BARE)
    with serving(tape, owned=OWNED) as url:
        place = str(kubeconfig(tmp_path / "kubeconfig", url, "lab"))
        cluster = {"distribution": "existing", "kubeconfig": place, "context": "lab"}
        file = tmp_path / "existing.yaml"
        file.write_text(yaml.safe_dump({"platform": {"name": "lab", "cluster": cluster, "layers": ["cluster"]}}))
        yield file, tape


BARE: dict[str, list[tuple[int, Any]]] = {
    "GET /api/v1?": [(200, {"resources": [
        {"name": name, "kind": kind, "namespaced": name == "configmaps", "verbs": ["get", "list"]}
        for name, kind in {"configmaps": "ConfigMap", "namespaces": "Namespace", "nodes": "Node"}.items()
    ]})],
    "GET /version?": [(200, {"gitVersion": "v1.35.4"})],
}  # fmt: skip


def test_status_and_diff_of_a_platform_without_layers(
    existing: tuple[Path, Tape], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, _ = existing
    assert call(monkeypatch, "status", "-f", str(file)) == show.OK
    said = capfd.readouterr()
    assert "all 0 objects are ready" in said.out
    assert said.err == ""
    assert call(monkeypatch, "diff", "-f", str(file)) == show.OK
    assert "no differences" in capfd.readouterr().out


def test_a_layer_that_is_not_there_is_not_removed(
    existing: tuple[Path, Tape], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["uninstall", "-f", str(existing[0]), "--layer", "storage", "--confirm", "lab"]
    assert call(monkeypatch, *words) == show.FAILED
    said = capfd.readouterr()
    assert "storage is not installed, and not among the platform's layers" in said.err
    assert "installed: none" in said.err


def test_a_command_on_the_cluster_of_another_is_refused(
    existing: tuple[Path, Tape], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, _ = existing
    other = file.read_text("utf-8").replace("name: lab", "name: other", 1)
    file.write_text(other, "utf-8")
    for words in (
        ["status"],
        ["diff"],
        ["claim"],
        ["install"],
        ["uninstall", "--layer", "cluster", "--confirm", "other"],
    ):
        assert call(monkeypatch, words[0], "-f", str(file), *words[1:]) == show.FAILED, words
        assert "'lab'" in capfd.readouterr().err


def test_uninstall_wants_the_name(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "uninstall", "-f", str(LAB), "--layer", "storage", "--confirm", "homelab") == show.FAILED
    assert "--confirm lab" in capfd.readouterr().err


FAILED = {
    show.FAILED: NodeUnreachable("n1", "no answer", fix="plug it in"),
    show.REFUSED: ParameterError("x: unknown"),
    show.CHECK_FAILED: CheckFailed("two checks did not hold"),
}
FAILED_CELLS = {show.FAILED: "KeyError", show.CHECK_FAILED: "CheckFailed"}


@pytest.mark.parametrize(("status", "error"), FAILED.items())
def test_an_error_is_told_with_its_fix(status: int, error: PlatformError, capfd: pytest.CaptureFixture[str]) -> None:
    assert show.error(error) == status
    said = capfd.readouterr().err
    assert str(error) in said and type(error).__name__ in said


@pytest.mark.parametrize(("status", "name"), FAILED_CELLS.items())
def test_a_failed_cell_has_the_status_of_its_error(status: int, name: str, tmp_path: Path) -> None:
    assert show.status(CellFailed("failed", ename=name, evalue="", output=tmp_path)) == status


def test_verbose_brings_the_traceback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--verbose", "check", "-f", "nowhere.yaml") == show.REFUSED
    assert "Traceback" in capfd.readouterr().err
