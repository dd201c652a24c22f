"""The kubeadm driver: the steps in their order, each on all machines at once."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.clusters import kubeconfig
from platformlib.clusters.driver import OnEvent, silent
from platformlib.clusters.kubeadm import members, remove
from platformlib.clusters.kubeadm.prepare import prepare
from platformlib.clusters.kubeadm.upgrade import upgrade
from platformlib.clusters.preflight import preflight
from platformlib.clusters.table import Row, node_table, step_table, steps
from platformlib.errors import ClusterError
from platformlib.machines import Machine, connect, each
from platformlib.machines.facts import Facts, facts
from platformlib.paths import state_dir
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class Kubeadm:
    """The driver of distribution `kubeadm`: one control plane, any number of workers."""

    def __init__(self, settings: Settings, program: Path | None = None, *, dry_run: bool = False) -> None:
        self.settings, self.program, self.dry_run = settings, program, dry_run
        self.plans = {node.name: node for node in settings.cluster.nodes}

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """The machines by name; connected at their first command."""
        state, ssh = state_dir(self.settings.name), self.settings.cluster.ssh
        return {name: connect(node, ssh, state=state, dry_run=self.dry_run) for name, node in self.plans.items()}

    @property
    def founder(self) -> Machine:
        """The control plane's machine."""
        return next(self.machines[name] for name, node in self.plans.items() if node.role == "control-plane")

    @property
    def workers(self) -> list[Machine]:
        return [self.machines[name] for name, node in self.plans.items() if node.role == "worker"]

    def _facts(self) -> dict[str, Facts]:
        return each(self.machines.values(), facts)

    def facts(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame([vars(seen) for seen in self._facts().values()])

    def preflight(self) -> "pd.DataFrame":
        return preflight(self.settings, self._facts())

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        seen, settings = self._facts(), self.settings
        preflight(settings, seen)
        on_event("preparing all machines: binaries, containerd, kubelet")
        rows = steps(
            self.machines.values(),
            "prepare",
            lambda it: prepare(it, settings, seen[it.name], self.program),
        )
        on_event(f"{self.founder.name}: kubeadm init")
        rows += steps([self.founder], "init", lambda machine: self._found(machine, seen))
        self.kubeconfig()
        return step_table(rows)

    def _found(self, machine: Machine, seen: dict[str, Facts]) -> bool:
        return members.found(machine, self.settings, self.plans[machine.name], seen[machine.name])

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        missing = [machine for machine in self.workers if not members.joined(machine)]
        rows: list[Row] = [(machine.name, "join", False, 0.0) for machine in self.workers if machine not in missing]
        if missing:
            on_event(f"joining {', '.join(machine.name for machine in missing)}")
            seen = each(missing, facts)
            invitation = members.invite(self.founder)
            rows += steps(
                missing,
                "join",
                lambda it: members.join(it, self.plans[it.name], seen[it.name], invitation),
            )
        return step_table(rows)

    def kubeconfig(self) -> Path:
        text = members.admin_config(self.founder)
        return kubeconfig.adopt(self.settings, text, f"https://{self.founder.address}:{members.PORT}")

    def nodes(self) -> "pd.DataFrame":
        return node_table(kubeconfig.existing(self.settings), self.settings.cluster.context)

    def upgrade(self, version: str, on_event: OnEvent = silent) -> "pd.DataFrame":
        if self.program is None:
            raise ClusterError(f"no bundle with Kubernetes {version}", fix="platformlib bundle build")
        return step_table(upgrade(self.founder, self.workers, version, self.program, on_event))

    def uninstall(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        on_event("taking Kubernetes off all machines")
        rows = steps(self.machines.values(), "remove", remove.remove)
        left = each(self.machines.values(), remove.leftovers)
        kubeconfig.path(self.settings).unlink(missing_ok=True)
        return step_table(rows).assign(left=lambda table: ["; ".join(left[name]) for name in table["node"]])
