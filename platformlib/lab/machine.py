"""One machine of the lab: systemd in a container of systemd-nspawn, reached by SSH like any other."""

import time
from pathlib import Path

from platformlib.errors import LabError, NodeUnreachable
from platformlib.lab import cgroups
from platformlib.lab.disk import PLAIN
from platformlib.lab.plan import MachinePlan, Plan
from platformlib.lab.shell import launch
from platformlib.machines import connect

UNITS = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30, "T": 10**12, "Ti": 2**40}


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as `4Gi`."""
    number = text.rstrip("kKMGTi")
    return int(float(number) * UNITS[text[len(number) :]])


def running(machine: MachinePlan) -> bool:
    """Whether the machine has processes."""
    return bool(cgroups.members(machine.group))


def boot(plan: Plan, machine: MachinePlan, root: Path) -> None:
    """Start the machine; no-op for one that runs."""
    if running(machine):
        return
    size = plan.settings.lab.machine
    argv = cgroups.start_argv(machine.group, quantity(size.memory), size.cpus, nspawn(machine, root))
    (machine.folder / "console.log").unlink(missing_ok=True)
    launch(argv, machine.folder / "console.log", SYSTEMD_NSPAWN_API_VFS_WRITABLE="1")


def nspawn(machine: MachinePlan, root: Path) -> list[str]:
    """The systemd-nspawn command line; what Kubernetes on it needs is granted, the network is the namespace's."""
    binds = [f"--bind={machine.folder}/var/{name}:/var/lib/{name}" for name in PLAIN]
    return [
        "systemd-nspawn",
        f"--directory={root}",
        "--boot",
        f"--network-namespace-path=/run/netns/{machine.namespace}",
        f"--machine={machine.node.name}",
        "--register=no",
        "--keep-unit",
        "--capability=all",
        "--private-users=no",
        "--system-call-filter=@keyring bpf",
        "--resolv-conf=off",
        "--bind=/dev/kmsg",
        *binds,
    ]


def wait_for_login(plan: Plan, machine: MachinePlan, *, deadline: float = 60) -> float:
    """Wait until SSH answers; the seconds it took.

    Raises:
        LabError: with the last lines of the machine's console.
    """
    start = time.monotonic()
    login = connect(machine.node, plan.settings.cluster.ssh, state=plan.folder.parent)
    while True:
        try:
            login.run(["true"], timeout=10)
        except NodeUnreachable as error:
            waited = time.monotonic() - start
            if waited > deadline or (waited > 2 and not running(machine)):  # noqa: PLR2004 - seconds to start
                console = (machine.folder / "console.log").read_text(errors="replace")[-1500:]
                raise LabError(f"{machine.node.name} did not come up: {error}\n{console}") from None
            time.sleep(0.2)
        else:
            return time.monotonic() - start
