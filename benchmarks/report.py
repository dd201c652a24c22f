"""Measurements of fresh processes, taken in turn, and the table that shows them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Measured:
    """All runs of one case."""

    name: str
    runs: Sequence[Mapping[str, Any]]

    def median(self, what: str = "seconds") -> float:
        """The middle run's seconds, cpu, count or peak."""
        return float(median(run[what] for run in self.runs))

    def row(self, peer: "Measured | None") -> str:
        """A line of the table; the ratios are of medians, with the least and greatest of the runs taken in turn."""
        times = sorted(run["seconds"] for run in self.runs)
        cells = [f"{self.median('count'):,.0f}", f"{times[0]:.2f} / {self.median():.2f} / {times[-1]:.2f}"]
        cells += [f"{self.median('cpu'):.2f}", *(self._ratios(peer) if peer else ["", ""])]
        cells += [f"{self.median('peak') / 2**20:.0f}", f"{self.median('added') / 2**20:.0f}"]
        cells += (
            [f"{self.median('peak') / peer.median('peak'):.2f}", f"{self.median('added') / peer.median('added'):.2f}"]
            if peer
            else ["", ""]
        )
        return f"| {self.name} | {' | '.join(cells)} |"

    def _ratios(self, peer: "Measured") -> list[str]:
        found = []
        for what in ("seconds", "cpu"):
            pairs = sorted(
                theirs[what] / ours[what] for theirs, ours in zip(peer.runs, self.runs, strict=True) if ours[what]
            )
            found.append(f"{pairs[0]:.1f} / {median(pairs):.1f} / {pairs[-1]:.1f}" if pairs else "")
        return found


COLUMNS = (
    "samples or lines", "seconds", "processor s", "times faster", "by processor",
    "peak MiB", "added MiB", "peak, share of peer's", "added, share of peer's",
)  # fmt: skip
HEAD = "\n".join([f"| case | {' | '.join(COLUMNS)} |", "|---" + "|---:" * len(COLUMNS) + "|"])


def measure(cases: Mapping[str, Sequence[str]], repeats: int) -> dict[str, Measured]:
    """Each case in a process of its own, in turn, `repeats` times: a busy moment hits them alike."""
    runs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, arguments in cases.items():
            runs[name].append(_run(arguments))
    return {name: Measured(name, found) for name, found in runs.items()}


def _run(arguments: Sequence[str]) -> Mapping[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.child", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]}: {done.stderr[-1500:]}")
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def table(title: str, measured: Mapping[str, Measured], peer: str | None) -> str:
    """A Markdown table; the peer itself has no ratio."""
    rows = [one.row(measured[peer] if peer and name != peer else None) for name, one in measured.items()]
    return "\n".join([f"\n### {title}\n", HEAD, *rows])
