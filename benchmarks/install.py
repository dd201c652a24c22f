"""Installing again what is installed already: `python -m benchmarks.install [FILE] [RUNS]`, on a platform that stands.

No object may change; what it takes is reading, comparing and proving. Beside the time stands the share of it that a
bare papermill with a one-cell notebook takes, which no install can go below.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]


def timed(argv: list[str]) -> float:
    """Seconds of a whole process."""
    start = time.monotonic()
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - start


def bare(folder: Path) -> Path:
    """A notebook of one cell."""
    path = folder / "bare.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def main(parameters: str = "parameters/lab.yaml", runs: str = "3") -> None:
    """Print min, median and max of both, and the ratio of the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor, install = (
            [timed(["papermill", str(source), str(folder / "out.ipynb"), *options]) for _ in range(int(runs))]
            for source, options in ((bare(folder), []), (Path("notebooks/install.ipynb"), ["-f", parameters]))
        )
    for label, seconds in (("papermill, one cell", floor), ("install again", install)):
        print(f"{label}: {min(seconds):.1f} / {statistics.median(seconds):.1f} / {max(seconds):.1f} s (min/median/max)")
    print(f"ratio of the medians: {statistics.median(install) / statistics.median(floor):.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
