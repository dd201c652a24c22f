"""The host after a lab with the platform on it is what it was before. Runs last: it takes the tests' lab down."""

from pathlib import Path

import pytest

from platformlib.lab import Lab
from tests.lab.conftest import run_install
from tests.lab.host_state import TAG, Snapshot, differences, processes, snapshot
from tests.proof import TEST_LAB

LIMIT = {"fs/inotify/max_user_instances", "user/max_inotify_instances"}  # one limit under two names


@pytest.mark.timeout(900)
@pytest.mark.proves("a lab with the platform on it leaves its host as it was, kernel settings included", room="lab")
def test_a_host_is_the_same_before_and_after(installed: Lab, host_before: Snapshot | None, tmp_path: Path) -> None:
    lab = installed
    if host_before is None:
        lab.down(print)
        host_before = snapshot()
        lab.up(print)
        done = run_install(tmp_path / "install.ipynb")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    during = snapshot()
    lab.down(print)
    changed = {line.split(" = ")[0] for line in set(during["sysctl"]) - set(host_before["sysctl"])}
    assert {key for key in changed if not TAG.search(key)} <= LIMIT
    assert differences(host_before, snapshot(), lab) == ""
    assert processes(TEST_LAB, patience=40) == []
    assert not lab.plan.state.exists()
