"""Records what the notebooks ask a real platform: `scripts/record [NAME ...]`, with the lab up and installed."""

import os
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from platformlib.cli.show import out
from platformlib.kube.credentials import Credentials
from platformlib.runbook import run
from platformlib.runbook.progress import progress
from platformlib.settings import load
from platformlib.targets import Target
from tests.notebooks.apiserver import OWNED, Tape, kubeconfig, serving

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
LAB = ROOT / "parameters" / "lab.yaml"
MORE: dict[str, dict[str, Any]] = {
    "10-cluster": {},
    "20-metrics": {"window": "30m"},
    "30-logs": {"window": "30m", "marker": "marker-recorded"},
}


def platform(url: str, folder: Path) -> dict[str, Any]:
    """The lab's parameters, with a kubeconfig that leads to the recorder or the player."""
    document: dict[str, Any] = yaml.safe_load(LAB.read_text("utf-8"))["platform"]
    document["layers"] = ["cluster", "storage", "observability"]  # policies alone would weigh megabytes
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
    with TemporaryDirectory() as place, serving(tape, real, OWNED) as url, progress(sys.stdout) as listener:
        os.environ["PLATFORMLIB_STATE"] = place  # what is remembered of the lab must not meet the recorder's identity
        parameters = {"platform": platform(url, Path(place)), **MORE[name]}
        run(ROOT / "notebooks" / f"{name}.ipynb", parameters=parameters, on_event=listener)
    tape.save(folder / "api.zst")
    return folder


def main() -> None:
    """Record the notebooks that are named, or all."""
    for name in sys.argv[1:] or MORE:
        folder = record(name)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        out.print(f"{name}: {size / 1000:.0f} kB in {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
