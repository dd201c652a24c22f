"""Records what the notebooks ask a real platform, and renders them from that: `scripts/record [NAME ...]`.

The lab must be up and installed. What is rendered is compared strictly by test_recorded, and shown by the docs.
"""

import os
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import yaml

from platformlib.cli.show import out
from platformlib.kube.credentials import Credentials
from platformlib.runbook import run
from platformlib.runbook.notebook import is_code
from platformlib.runbook.progress import progress
from platformlib.runbook.resume import INJECTED
from platformlib.settings import load
from platformlib.targets import Target
from tests.notebooks.apiserver import OWNED, Tape, kubeconfig, serving

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
RENDERED = ROOT / "docs" / "rendered"
LAB = ROOT / "parameters" / "lab.yaml"
SECURITY = ("41-access", "42-pod-security", "43-quotas", "44-policies")
# Not 00-preflight, 15-machines and 40-network, which log in to machines; nor those that change a lot.
MORE: dict[str, dict[str, Any]] = {
    "10-cluster": {"window": "30m"},
    "20-metrics": {"window": "30m"},
    "30-logs": {"window": "30m"},
    "31-log-path": {"marker": "marker-recorded"},
    **{name: {"window": "30m"} for name in SECURITY},
    "50-storage": {"window": "30m"},
    "60-applications": {"window": "30m", "namespace": "observability"},
}


def platform(url: str, folder: Path, name: str = "") -> dict[str, Any]:
    """The lab's parameters, with a kubeconfig that leads to the recorder or the player."""
    document: dict[str, Any] = yaml.safe_load(LAB.read_text("utf-8"))["platform"]
    # The policies alone would weigh megabytes: only where they are looked at.
    document["layers"] = ["cluster", *(["security"] if name in SECURITY else []), "storage", "observability"]
    document["cluster"] |= {
        "distribution": "existing",
        "context": "lab",
        "kubeconfig": str(kubeconfig(folder / "kubeconfig", url, "lab")),
    }
    return document


def record(name: str) -> Path:
    """Run one notebook on the lab and keep every answer; the folder with them."""
    folder, tape = RECORDED / name, Tape()
    rmtree(folder, ignore_errors=True)
    os.environ["PLATFORMLIB_RECORD"] = str(folder)
    real = Credentials.load(Target(load(LAB)).kubeconfig)
    try:
        with TemporaryDirectory() as place, serving(tape, real, OWNED) as url, progress(sys.stdout) as listener:
            os.environ["PLATFORMLIB_STATE"] = place  # what is remembered of the lab must not meet this identity
            parameters = {"platform": platform(url, Path(place), name), **MORE[name]}
            run(ROOT / "notebooks" / f"{name}.ipynb", parameters=parameters, on_event=listener)
    finally:
        del os.environ["PLATFORMLIB_RECORD"], os.environ["PLATFORMLIB_STATE"]
    tape.save(folder / "api.zst")
    return folder


def render(source: Path, recorded: Path, parameters: dict[str, Any], result: Path, name: str = "") -> Path:
    """Run a notebook on a recording, and keep it with its outputs and without what is of this run alone."""
    os.environ |= {"PLATFORMLIB_REPLAY": str(recorded), "TZ": "UTC"}
    try:
        with TemporaryDirectory() as place, serving(Tape.load(recorded / "api.zst"), owned=OWNED) as url:
            os.environ["PLATFORMLIB_STATE"] = place
            values = {"platform": platform(url, Path(place), name), **parameters}
            done = run(source, parameters=values, output=Path(place) / "done.ipynb", runs=Path(place))
            made = nbformat.read(done.output, as_version=4)
    finally:
        del os.environ["PLATFORMLIB_REPLAY"], os.environ["PLATFORMLIB_STATE"]
    made.cells = [cell for cell in made.cells if INJECTED not in cell.metadata.get("tags", [])]
    made.metadata.pop("papermill", None)
    for cell in made.cells:
        for key in ("papermill", "execution", "platformlib"):
            cell.metadata.pop(key, None)
    result.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, result)
    return result


def stale(name: str) -> str:
    """Why a rendered copy cannot be compared; nothing if it can."""
    rendered = RENDERED / f"{name}.ipynb"
    if not rendered.is_file() or not (RECORDED / name / "api.zst").is_file():
        return f"not recorded yet: scripts/record {name}"
    pair = [nbformat.read(path, as_version=4) for path in (ROOT / "notebooks" / f"{name}.ipynb", rendered)]
    codes = [[cell.source for cell in found.cells if is_code(cell)] for found in pair]
    return "" if codes[0] == codes[1] else f"the notebook asks other questions now: scripts/record {name}"


def main() -> None:
    """Record and render the notebooks that are named, or all."""
    for name in sys.argv[1:] or MORE:
        folder = record(name)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        made = render(ROOT / "notebooks" / f"{name}.ipynb", folder, MORE[name], RENDERED / f"{name}.ipynb", name)
        out.print(f"{name}: {size / 1000:.0f} kB in {folder.relative_to(ROOT)}, {made.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
