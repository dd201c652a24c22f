"""Rendered notebooks, compared strictly by nbval with what the same code shows now, on recorded answers."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from platformlib.query.cassette import SECRETS
from platformlib.runbook import export
from tests.notebooks.apiserver import OWNED, Tape, serving
from tests.notebooks.record import LAB, MORE, RECORDED, RENDERED, platform, render, stale
from tests.notebooks.tiny import code, prose, save

SANITIZE = Path(__file__).parent / "sanitize.cfg"
PATIENCE = 15.0  # seconds that a view may take on a recording, without the start of its kernel


def compared(rendered: Path, name: str, folder: Path, parameters: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a rendered notebook on its recording by nbval: each output must be the same."""
    found = nbformat.read(rendered, as_version=4)
    with serving(Tape.load(RECORDED / name / "api.zst"), owned=OWNED) as url:
        values = {"platform": platform(url, folder, name), **parameters}
        injected = new_code_cell("\n".join(f"{key} = {value!r}" for key, value in values.items()), id="injected")
        place = next(n for n, cell in enumerate(found.cells) if "parameters" in cell.metadata.get("tags", []))
        found.cells.insert(place + 1, injected)
        ready = folder / f"{name}.ipynb"
        nbformat.write(found, ready)
        options = ["-q", "-p", "no:cacheprovider", "--nbval", "--nbval-sanitize-with", str(SANITIZE)]
        environment = {**os.environ, "PLATFORMLIB_REPLAY": str(RECORDED / name), "TZ": "UTC",
                       "PLATFORMLIB_STATE": str(folder)}  # fmt: skip
        return subprocess.run([sys.executable, "-m", "pytest", *options, str(ready)], cwd=folder, env=environment,
                              capture_output=True, text=True, check=False)  # fmt: skip


@pytest.mark.parametrize("name", MORE)
def test_a_notebook_shows_what_its_rendered_copy_shows(name: str, tmp_path: Path) -> None:
    if why := stale(name):
        pytest.skip(why)
    began = time.monotonic()
    done = compared(RENDERED / f"{name}.ipynb", name, tmp_path, MORE[name])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert time.monotonic() - began < 2 * PATIENCE
    assert export(RENDERED / f"{name}.ipynb", tmp_path / "page.html").stat().st_size < 3_000_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A notebook of pictures and tables whose questions are all in the recording of 20-metrics, and its rendering."""
    folder = tmp_path_factory.mktemp("small")
    asked = ["cpu_by_node", "memory_by_namespace", "api_latency"]
    source = save(
        folder / "small.ipynb",
        prose("# Small", id="about"),
        code(f'platform: object = "{LAB}"  # which\nwindow: "Duration" = "1h"  # how far back', "parameters", id="p"),
        code("import platformlib as pl\n\ntarget = pl.bind(platform)", "bind", id="bind"),
        *(code(f"pl.plot(target.queries.{name}(window=window))", id=name.replace("_", "-")) for name in asked),
        code("target.members.table()", id="table"),
    )
    return source, render(source, RECORDED / "20-metrics", {"window": "30m"}, folder / "rendered" / "small.ipynb")


def test_pictures_and_tables_are_the_same_in_another_kernel(small: tuple[Path, Path], tmp_path: Path) -> None:
    done = compared(small[1], "20-metrics", tmp_path, {"window": "30m"})
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_a_difference_of_one_picture_is_found(small: tuple[Path, Path], tmp_path: Path) -> None:
    changed = nbformat.read(small[1], as_version=4)
    cell = next(cell for cell in changed.cells if cell.get("id") == "cpu-by-node")
    cell.source = cell.source.replace("cpu_by_node", "memory_by_node")
    nbformat.write(changed, tmp_path / "changed.ipynb")
    done = compared(tmp_path / "changed.ipynb", "20-metrics", tmp_path, {"window": "30m"})
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def test_a_rendered_notebook_has_pictures_in_every_form_and_its_page_asks_nobody(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    cells = {cell.get("id"): cell for cell in nbformat.read(small[1], as_version=4).cells}
    forms = cells["cpu-by-node"].outputs[0]["data"]
    assert set(forms) == {"application/vnd.vegalite.v5+json", "image/svg+xml", "text/plain"}
    assert forms["text/plain"].startswith("CPU use by node, 2026-11-23")
    page = export(small[1], tmp_path / "page.html").read_text("utf-8")
    assert page.count("<svg") >= 3
    assert "pl-table" in page


def test_a_recording_holds_no_secret() -> None:
    for folder in RECORDED.iterdir():
        said = str(Tape.load(folder / "api.zst").answers).encode()
        assert [found[0] for found in SECRETS.finditer(said) if b"REDACTED" not in found[0]] == []
