"""The command line: what a person reads, and the status that a script gets."""

import sys
from pathlib import Path

import pytest

from platformlib.cli import main, show
from platformlib.errors import CellFailed, CheckFailed, NodeUnreachable, ParameterError, PlatformError

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


COMMANDS = ["", "run", "check", "status", "diff", "uninstall", "queries", "lab", "lab check", "lab up", "lab status",
            "lab ssh", "lab down", "bundle", "bundle build", "bundle list", "bundle verify"]  # fmt: skip


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
