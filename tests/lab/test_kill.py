"""An install that is killed at random moments five times, then run to its end, is an undisturbed install.

Killed is everything at once: the command, its kernel, and what runs for it on the machines.
"""

import random
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import platformlib as pl
from platformlib.lab import Lab, cgroups
from tests.lab.conftest import PARAMETERS, ROOT, run_install

KILLS = 5


def objects(target: "pl.Target") -> dict[str, set[str]]:
    """Every object of the platform, by layer."""
    return {name: {str(reference) for reference in target.kube.inventory(name)} for name in target.settings.layers}


def kill_after(seconds: float, output: Path, lab: Lab) -> int:
    """Start the install; end it, its kernel and its remote scripts after so many seconds. How many scripts ran."""
    argv = ["platformlib", "run", "install", "-f", str(PARAMETERS), "--output", str(output)]
    install = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        install.wait(seconds)
    except subprocess.TimeoutExpired:
        ours = [*psutil.Process(install.pid).children(recursive=True), psutil.Process(install.pid)]
        remote = remote_scripts(lab)
        for process in [*ours, *remote]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        install.wait()
        return len(remote)
    return 0


def remote_scripts(lab: Lab) -> list[psutil.Process]:
    """What runs on the machines for an SSH login, and the logins themselves, as this host sees them."""
    found: list[psutil.Process] = []
    for process in (it for machine in lab.plan.machines for it in cgroups.members(machine.group)):
        with suppress(psutil.NoSuchProcess):
            login = psutil.Process(process)
            if " ".join(login.cmdline()).startswith("sshd: root@"):
                found += [*login.children(recursive=True), login]
    return found


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.proves(
    "an install that is killed anywhere, remote scripts included, goes on to the same platform", room="runbook"
)
def test_killed_five_times_and_run_to_the_end(target: "pl.Target", lab: Lab, tmp_path: Path, seed: int) -> None:
    undisturbed = objects(target)
    lab.down()
    lab.up()
    draw = random.Random(seed)
    moments = [draw.uniform(3, 60) for _ in range(KILLS)]
    killed = [kill_after(seconds, tmp_path / f"killed-{number}.ipynb", lab) for number, seconds in enumerate(moments)]
    done = run_install(tmp_path / "whole.ipynb")
    said = f"killed after {moments}, with {killed} remote processes"
    assert done.returncode == 0, f"{said}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    again: Any = pl.bind(str(PARAMETERS))
    assert objects(again) == undisturbed, said
    assert {name: again.layer(name).diff().empty for name in undisturbed} == dict.fromkeys(undisturbed, True)
