"""An install that is killed at random points five times, then run to its end, is an undisturbed install.

Runs last: it takes the lab down and builds it anew.
"""

import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import platformlib as pl
from platformlib.lab import Lab
from tests.lab.conftest import PARAMETERS, ROOT, run_install

KILLS = 5


def objects(target: "pl.Target") -> dict[str, set[str]]:
    """Every object of the platform, by layer."""
    return {name: {str(reference) for reference in target.kube.inventory(name)} for name in target.settings.layers}


def kill_after(seconds: float, output: Path) -> None:
    """Start the install; end it and its kernel at once after so many seconds."""
    argv = ["platformlib", "run", "install", "-f", str(PARAMETERS), "--output", str(output)]
    install = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        install.wait(seconds)
    except subprocess.TimeoutExpired:
        for process in [*psutil.Process(install.pid).children(recursive=True), psutil.Process(install.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        install.wait()


@pytest.mark.timeout(1500)
def test_killed_five_times_and_run_to_the_end(target: "pl.Target", lab: Lab, tmp_path: Path) -> None:
    undisturbed = objects(target)
    lab.down()
    lab.up()
    target.kubeconfig.unlink()
    seed = time.time_ns() % 2**32
    print(f"seed {seed}")
    moments: list[float] = [random.Random(seed).uniform(3, 60) for _ in range(KILLS)]
    for number, seconds in enumerate(moments):
        kill_after(seconds, tmp_path / f"killed-{number}.ipynb")
    done = run_install(tmp_path / "whole.ipynb")
    assert done.returncode == 0, f"killed after {moments}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    again: Any = pl.bind(str(PARAMETERS))
    assert objects(again) == undisturbed
    assert {name: again.layer(name).diff().empty for name in undisturbed} == dict.fromkeys(undisturbed, True)
