"""The kubeadm driver: the steps in their order, each on all machines at once."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.clusters import kubeconfig
from platformlib.clusters.driver import OnEvent, silent
from platformlib.clusters.kubeadm import config, install, remove
from platformlib.clusters.kubeadm.install import KUBECTL, Program, inspect
from platformlib.clusters.kubeadm.upgrade import (
    Move,
    awaken,
    before,
    parse,
    refuse,
    release,
    revive,
    snapshots,
)  # fmt: skip
from platformlib.clusters.kubectl import Kubectl, Member, label_changes
from platformlib.clusters.preflight import preflight
from platformlib.clusters.table import Planned, Row, node_table, plan_table, step_table, steps
from platformlib.errors import ClusterError
from platformlib.machines import Machine, connect, each
from platformlib.machines.facts import Facts, facts
from platformlib.paths import state_dir
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class Kubeadm:
    """The driver of distribution `kubeadm`: one control plane, any number of workers.

    Args:
        program: the bundle's binary of all Kubernetes programs; without it the machines must have them.
        dry_run: its machines refuse every change, and its verbs say what they would do.
    """

    def __init__(self, settings: Settings, program: Path | None = None, *, dry_run: bool = False) -> None:
        self.settings, self.program, self.dry_run = settings, program, dry_run
        self.plans = {node.name: node for node in settings.cluster.nodes}

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """The machines by name; connected at their first command."""
        state, ssh = state_dir(self.settings.name), self.settings.cluster.ssh
        return {name: connect(node, ssh, state=state, dry_run=self.dry_run) for name, node in self.plans.items()}

    @property
    def control_plane(self) -> Machine:
        return next(self.machines[name] for name, node in self.plans.items() if node.role == "control-plane")

    @property
    def workers(self) -> list[Machine]:
        return [self.machines[name] for name, node in self.plans.items() if node.role == "worker"]

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as the administrator, on the control plane."""
        return Kubectl(self.control_plane, KUBECTL)

    @cached_property
    def bundled(self) -> Program | None:
        """The bundle's program, as it says of itself."""
        return inspect(self.program) if self.program else None

    def _facts(self) -> dict[str, Facts]:
        return each(self.machines.values(), facts)

    def facts(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame([vars(seen) for seen in self._facts().values()])

    def preflight(self) -> "pd.DataFrame":
        return preflight(self.settings, self._facts())

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Prepare all machines and initialise the cluster on the control plane.

        Raises:
            PreflightFailed: a machine is not fit, or a member has another version than the parameters.
            ClusterError: the bundle has another version or architecture than the parameters and machines.
        """
        seen, settings = self._facts(), self.settings
        preflight(settings, seen)
        bundled = self._needed(seen, on_event)
        install.refuse(settings, seen, bundled)
        if self.dry_run:
            return plan_table(self._plan_install(seen, bundled))
        on_event("preparing all machines: binaries, containerd, kubelet")
        rows = steps(
            self.machines.values(), "prepare", lambda it: install.prepare(it, settings, seen[it.name], bundled)
        )
        control = self.control_plane
        on_event(f"{control.name}: kubeadm init")
        rows += steps(
            [control], "init", lambda it: install.init(it, settings, self.plans[it.name], seen[it.name])
        )  # fmt: skip
        rows += steps([control], "release", lambda _: release(self.kubectl))
        rows += self._label([control])
        self.kubeconfig()
        return step_table(rows)

    def _needed(self, seen: dict[str, Facts], on_event: OnEvent) -> Program | None:
        """The bundle's program, unless it is of another version and all machines have what the parameters name."""
        wanted = self.settings.cluster.version
        if self.bundled and self.bundled.version != wanted and all(it.kubelet == wanted for it in seen.values()):
            on_event(f"the machines have {wanted}; the bundle's {self.bundled.version} is for an upgrade")
            return None
        return self.bundled

    def _plan_install(self, seen: dict[str, Facts], bundled: Program | None) -> list[Planned]:
        rows: list[Planned] = []
        told = each(
            self.machines.values(), lambda it: install.plan(it, self.settings, seen[it.name], bundled)
        )  # fmt: skip
        for name, words in told.items():
            rows += [(name, "prepare", f"would {word}") for word in words] or [(name, "prepare", "unchanged")]
        done = install.joined(self.control_plane)
        return [*rows, (self.control_plane.name, "init", "unchanged" if done else "would run kubeadm init")]

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Join every worker that is not a member yet, and give all nodes their labels and taints."""
        missing = [machine for machine in self.workers if not install.joined(machine)]
        if self.dry_run:
            names = {machine.name for machine in missing}
            actions = {it.name: "would run kubeadm join" if it.name in names else "unchanged" for it in self.workers}
            return plan_table((name, "join", action) for name, action in actions.items())
        rows: list[Row] = [(machine.name, "join", False, 0.0) for machine in self.workers if machine not in missing]
        if missing:
            on_event(f"joining {', '.join(machine.name for machine in missing)}")
            seen = each(missing, facts)
            invitation = install.invite(self.control_plane)
            rows += steps(
                missing, "join", lambda it: install.join(it, self.plans[it.name], seen[it.name], invitation)
            )  # fmt: skip
        return step_table(rows + self._label(self.workers))

    def _label(self, machines: list[Machine]) -> list[Row]:
        """Labels and taints as in the parameters. kubelet gives them at registration only, so kubectl does."""
        members = self.kubectl.members()
        return steps([it for it in machines if it.name in members], "labels", lambda it: self._labelled(it, members))

    def _labelled(self, machine: Machine, members: dict[str, Member]) -> bool:
        node = self.plans[machine.name]
        taints = config.taints(self.settings, node)
        unwanted = [] if self.workers else [config.CONTROL_PLANE_TAINT]
        changes = label_changes(node, members[node.name], taints, unwanted)
        for arguments in changes:
            self.kubectl.write(*arguments)
        return any(arguments[0] != "annotate" for arguments in changes)

    def kubeconfig(self) -> Path:
        text = install.admin_config(self.control_plane)
        return kubeconfig.adopt(self.settings, text, f"https://{self.control_plane.address}:{install.PORT}")

    def nodes(self) -> "pd.DataFrame":
        return node_table(kubeconfig.existing(self.settings), self.settings.cluster.context)

    def snapshots(self) -> "pd.DataFrame":
        """id, version, size: the snapshots of etcd on the control plane, the newest last; size in bytes."""
        import pandas as pd

        return pd.DataFrame(map(vars, snapshots(self.control_plane)), columns=["id", "version", "size"])

    def upgrade(self, version: str, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Snapshot etcd, move the control plane, then node by node, drained; run again, it continues.

        Raises:
            ClusterError: no bundle with that version, a step that Kubernetes does not allow, or an unhealthy cluster.
        """
        if not install.joined(self.control_plane):
            raise ClusterError(f"{self.control_plane.name} has no cluster yet", fix="install it first")
        if not self.dry_run:
            awaken(self.kubectl, self.control_plane)
        api, kubelets = self._versions()
        if {api, *kubelets} == {version}:
            return self._at_version()
        if self.bundled is None:
            raise ClusterError(f"no bundle with Kubernetes {version}", fix="platformlib bundle build")
        seen = self._facts()
        self.bundled.refuse(version, seen)
        refuse(api, kubelets, version)
        return self._move(version, self.bundled, seen, on_event)

    def _versions(self) -> tuple[str, list[str]]:
        """Of the API server, and of each kubelet."""
        return self.kubectl.version(), [member.version for member in self.kubectl.members().values()]

    def _at_version(self) -> "pd.DataFrame":
        """Nothing to move; a node that an interrupted upgrade has left cordoned is given back."""
        if self.dry_run:
            return plan_table((name, "node", "unchanged") for name in self.machines)
        rows = steps([self.control_plane], "release", lambda _: release(self.kubectl))
        return step_table([*rows, *((name, "node", False, 0.0) for name in self.machines)])

    def rollback(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Back to the version before the last upgrade, node by node, drained. The cluster's data stays.

        Raises:
            ClusterError: no upgrade was begun, or the version before is of another minor.
        """
        found, rows = snapshots(self.control_plane), []
        if found and not self.dry_run:
            rows = steps([self.control_plane], "revive", lambda it: revive(self.kubectl, it, found[-1]))
            release(self.kubectl)  # an interrupted rollback may have ended with a cordoned node
        api, kubelets = self._versions()
        revived = any(changed for _, _, changed, _ in rows)
        chosen = found[-1] if revived else before(found, max([api, *kubelets], key=parse))
        refuse(api, kubelets, chosen.version, back=True)
        table = self._move(chosen.version, None, self._facts(), on_event, back=True)
        return table if self.dry_run else step_table([*rows, *table.itertuples(index=False, name=None)])

    def _move(
        self, version: str, bundled: Program | None, seen: dict[str, Facts], on_event: OnEvent, *, back: bool = False
    ) -> "pd.DataFrame":
        move = Move(self.kubectl, self.control_plane, self.workers, seen, version, bundled, on_event, back)
        return plan_table(move.plan()) if self.dry_run else step_table(move.run())

    def uninstall(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Take Kubernetes off all machines: node, step, changed, seconds, left. Volumes of pods stay.

        Raises:
            NodeError: on some machine a mount could not be unmounted; its data was not touched.
        """
        machines, pods = self.machines.values(), self.settings.cluster.network.pods
        if self.dry_run:
            told = each(machines, lambda it: remove.plan(it, pods))
            rows = [(name, "remove", f"would remove {what}") for name, lines in told.items() for what in lines]
            return plan_table(rows or [(name, "remove", "unchanged") for name in self.machines])
        on_event("taking Kubernetes off all machines")
        done = steps(machines, "remove", lambda it: remove.remove(it, pods))
        left = each(machines, lambda it: remove.leftovers(it, pods))
        kubeconfig.forget(self.settings)
        return step_table(done).assign(left=lambda table: ["; ".join(left[name]) for name in table["node"]])
