"""The notebooks that read a platform, run by nbval on what a real one answered: no cluster is needed."""

import os
import subprocess
import sys
from pathlib import Path

import papermill
import pytest

from tests.notebooks.apiserver import OWNED, Tape, serving
from tests.notebooks.record import MORE, RECORDED, ROOT, platform


@pytest.mark.parametrize("name", MORE)
def test_notebook_runs_on_recorded_answers(name: str, tmp_path: Path) -> None:
    tape = Tape.load(RECORDED / name / "api.zst")
    with serving(tape, owned=OWNED) as url:
        parameters = {"platform": platform(url, tmp_path), **MORE[name]}
        source, ready = ROOT / "notebooks" / f"{name}.ipynb", tmp_path / f"{name}.ipynb"
        papermill.execute_notebook(source, ready, parameters, prepare_only=True, progress_bar=False)
        done = nbval(ready, RECORDED / name, tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def nbval(notebook: Path, recorded: Path, state: Path) -> subprocess.CompletedProcess[str]:
    """Run a notebook cell by cell; each that raises is a failure."""
    argv = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", str(notebook)]
    environment = {**os.environ, "PLATFORMLIB_REPLAY": str(recorded), "PLATFORMLIB_STATE": str(state)}
    return subprocess.run(argv, cwd=notebook.parent, env=environment, capture_output=True, text=True, check=False)


def test_a_recording_holds_no_secret() -> None:
    from platformlib.query.cassette import SECRETS

    for name in MORE:
        said = str(Tape.load(RECORDED / name / "api.zst").answers).encode()
        assert [found[0] for found in SECRETS.finditer(said) if b"REDACTED" not in found[0]] == []
