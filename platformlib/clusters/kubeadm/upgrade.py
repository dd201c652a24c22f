"""Moving to another version: rules first, the control plane next, then one node after the other."""

from pathlib import Path

from platformlib.clusters.driver import OnEvent
from platformlib.clusters.kubeadm.prepare import LIBRARY, LINK, PROGRAMS
from platformlib.clusters.table import Row, steps
from platformlib.errors import ClusterError
from platformlib.machines import Machine

DRAIN = """set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
kubectl drain "$1" --ignore-daemonsets --delete-emptydir-data --timeout=300s
"""
READY = """set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
kubectl uncordon "$1"
kubectl wait node "$1" --for=condition=Ready --timeout=180s
"""


def refuse(current: str, wanted: str) -> None:
    """Kubernetes moves up by one minor version at a time, and never down.

    Raises:
        ClusterError: the step is not allowed.
    """
    now, then = (tuple(map(int, text.lstrip("v").split("-")[0].split("."))) for text in (current, wanted))
    if then < now:
        raise ClusterError(f"{wanted} is older than {current}", fix="restore a backup instead of a downgrade")
    if then[0] != now[0] or then[1] - now[1] > 1:
        raise ClusterError(
            f"{current} to {wanted} skips a minor version", fix=f"upgrade to v{now[0]}.{now[1] + 1} first"
        )


def upgrade(founder: Machine, workers: list[Machine], version: str, program: Path, on_event: OnEvent) -> list[Row]:
    """All machines, one after the other; each must be Ready before the next is touched."""
    current = founder.run(["kubelet", "--version"]).stdout.split()[-1]
    refuse(current, version)
    rows: list[Row] = []
    for machine in [founder, *workers]:
        on_event(f"{machine.name}: {current} to {version}")
        rows += steps([machine], "upgrade", lambda it: _one(it, founder, version, program))
    return rows


def _one(machine: Machine, founder: Machine, version: str, program: Path) -> bool:
    target = f"{LIBRARY}/kubernetes-{version}"
    if machine.run(["readlink", "/usr/local/bin/kubelet"], check=False).stdout.strip() == target:
        return False
    machine.upload(program, target)
    verb = ["apply", "--yes", version] if machine is founder else ["node"]
    machine.run(["ln", "-sfn", target, "/usr/local/bin/kubeadm"])
    machine.run(["kubeadm", "upgrade", *verb], timeout=600)
    founder.shell(DRAIN, machine.name, timeout=330)
    machine.run(["sh", "-c", LINK, target, *PROGRAMS])
    machine.run(["systemctl", "restart", "kubelet"])
    founder.shell(READY, machine.name, timeout=200)
    return True
