"""The machines of a platform: what its distribution's driver does with them, and how they stand as nodes."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import yaml

from platformlib.checks import Result, table, verify
from platformlib.errors import ClusterError, KubeError
from platformlib.settings import Settings
from platformlib.targets import card
from platformlib.targets.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from platformlib.clusters import Driver
    from platformlib.clusters.driver import OnEvent
    from platformlib.clusters.k3s import K3s
    from platformlib.targets.target import Target

PART = "machines"
NODE_COLUMNS = ["node", "role", "ready", "version", "address"]


class Machines:
    """The verbs of a distribution's driver, each timed and reported. Every verb may be repeated.

    Args:
        skipped: why nothing is done; then every verb that changes something returns the reason instead.
    """

    def __init__(self, target: "Target", driver: "Driver", *, skipped: str = "") -> None:
        self.target, self.driver, self.skipped = target, driver, skipped
        self.settings, self._steps = target.settings, target.steps

    def __repr__(self) -> str:
        return f"Machines({', '.join(node.name for node in self.settings.cluster.nodes)})"

    def facts(self) -> "pd.DataFrame":
        """What the machines are, one row each."""
        return self._reached().facts()

    def nodes(self) -> "pd.DataFrame":
        """The nodes as the API server knows them: node, role, ready, version, address, …"""
        return self.driver.nodes()

    def kubeconfig(self) -> "Path":
        """The administrator's kubeconfig, fetched if need be."""
        return self._reached().kubeconfig()

    def tested(self) -> "pd.DataFrame":
        """How what the distribution's driver does was proven before it came here.

        Returns:
            Empty for a distribution that does not say.

            Columns: what, by (machines, stand-in, reading, nothing), how
        """
        import pandas as pd

        file = files("platformlib.clusters").joinpath(self.settings.cluster.distribution, "tested.yaml")
        rows = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else []
        return pd.DataFrame(rows, columns=["what", "by", "how"])

    def preflight(self) -> "pd.DataFrame":
        """Whether the machines are fit: node, check, ok, expected, found, fix.

        Raises:
            PreflightFailed: with the table.
        """
        with self._steps.step(PART, "preflight") as step:
            return step.done(self._skip("preflight") if self.skipped else self._reached().preflight())

    def install(self) -> "pd.DataFrame":
        """Prepare all machines and start the cluster on the control plane: node, step, changed, seconds."""
        with self._steps.step(PART, "install") as step:
            if self.skipped:
                return step.done(self._skip("install"))
            self._require_own(silent=True)
            self._forget_lost_cluster()
            return step.done(self.driver.install(step.tell))

    def join(self) -> "pd.DataFrame":
        """Join every machine that is not a member yet: node, step, changed, seconds."""
        with self._steps.step(PART, "join") as step:
            if self.skipped:
                return step.done(self._skip("join"))
            self._require_own(silent=True)
            return step.done(self.driver.join(step.tell))

    def upgrade(self, version: str) -> "pd.DataFrame":
        """Move to another version: control plane first, then node by node."""
        with self._steps.step(PART, "upgrade") as step:
            if self.skipped:
                return step.done(self._skip("upgrade"))
            self._require_own(silent=False)
            return step.done(self.driver.upgrade(version, step.tell))

    def snapshots(self) -> "pd.DataFrame":
        """The datastore's snapshots: id, version, and what else the distribution tells. Raises: ClusterError."""
        from platformlib.clusters.kubeadm import Kubeadm

        driver = self._reached()
        return driver.snapshots() if isinstance(driver, Kubeadm) else self._k3s().snapshots()

    def snapshot(self) -> "pd.DataFrame":
        """Copy the datastore now, and the copy to a second machine. k3s only."""
        return self._repaired("snapshot", lambda driver, tell: driver.snapshot(tell))

    def rollback(self, snapshot: str = "") -> "pd.DataFrame":
        """Go back to an earlier version. k3s loses what was written since its snapshot; kubeadm keeps all data.

        Args:
            snapshot: with k3s the snapshot's id, from `snapshots()`; there is no default. kubeadm takes none.

        Raises:
            ClusterError: there is nothing to go back to, or no such snapshot: the message lists all.
        """
        from platformlib.clusters.kubeadm import Kubeadm

        if not isinstance(self.driver, Kubeadm):
            return self._repaired("rollback", lambda driver, tell: driver.rollback(snapshot, tell))
        if snapshot:
            raise ClusterError(f"kubeadm does not go back to snapshot {snapshot}", fix="leave the snapshot out")
        with self._steps.step(PART, "rollback") as step:
            self._require_own(silent=True)
            return step.done(self.driver.rollback(step.tell))

    def restore(self, snapshot: str = "") -> "pd.DataFrame":
        """Make a cluster from a snapshot on machines that have none; then `join`. k3s only. Raises ClusterError."""
        return self._repaired("restore", lambda driver, tell: driver.restore(snapshot, tell))

    def migrate(self) -> "pd.DataFrame":
        """Move the datastore of one server from SQLite to etcd. k3s only. Raises ClusterError."""
        return self._repaired("migrate", lambda driver, tell: driver.migrate(tell))

    def rotate(self, what: Literal["certificates", "token", "encryption"]) -> "pd.DataFrame":
        """New certificates, a new servers' token, or a new key for Secrets at rest. k3s only. Raises ClusterError."""

        def work(driver: "K3s", tell: "OnEvent") -> "pd.DataFrame":
            verbs = {
                "certificates": driver.rotate_certificates,
                "token": driver.rotate_token,
                "encryption": driver.rotate_encryption,
            }
            return verbs[what](tell)

        return self._repaired(f"rotate {what}", work)

    def remove(self, *nodes: str, force: bool = False) -> "pd.DataFrame":
        """Take nodes out of a cluster that goes on, one after the other, and k3s off their machines. k3s only.

        Args:
            force: end pods as well that nothing starts again.

        Raises:
            ClusterError: no quorum without one, or pods that nothing would start again.
        """
        return self._repaired("remove", lambda driver, tell: driver.uninstall(tell, nodes=nodes, force=force))

    def _repaired(self, verb: str, work: "Callable[[K3s, OnEvent], pd.DataFrame]") -> "pd.DataFrame":
        """A verb of k3s's driver that also works where no API server answers."""
        driver = self._k3s()
        with self._steps.step(PART, verb) as step:
            if self.skipped:
                return step.done(self._skip(verb))
            self._require_own(silent=True)
            return step.done(work(driver, step.tell))

    def _k3s(self) -> "K3s":
        from platformlib.clusters.k3s import K3s

        if not isinstance(self.driver, K3s):
            raise ClusterError(f"the driver of {self.settings.cluster.distribution} cannot do that", fix="a backup")
        return self.driver

    def uninstall(self) -> "pd.DataFrame":
        """Take Kubernetes off the machines: node, step, changed, seconds, left."""
        with self._steps.step(PART, "uninstall") as step:
            if self.skipped:
                return step.done(self._skip("uninstall"))
            self._require_own(silent=False)
            return step.done(self.driver.uninstall(step.tell))

    def _require_own(self, *, silent: bool) -> None:
        """Refuse machines whose cluster belongs to another platform.

        Args:
            silent: accept an API server that does not answer, for verbs that repair a cluster.

        Raises:
            WrongCluster: another platform's. KubeError: no answer, and `silent` is off. LabError: see `_reached`.
        """
        if self.target.kubeconfig.is_file():
            try:
                card.ask(self.settings, self.target.kubeconfig)
            except KubeError:
                if not silent:
                    raise
        self._reached()

    def _reached(self) -> "Driver":
        """The driver, unless its addresses may be other machines'. Raises: LabError."""
        from platformlib.lab import require_machines

        if not self.target.dry_run:
            require_machines(self.settings)
        return self.driver

    def _forget_lost_cluster(self) -> None:
        """Drop the identity kept here when the machines answer and none has a cluster: they were rebuilt."""
        from platformlib.kube import identity

        if self.target.dry_run or identity.recall(self.settings.name) is None:
            return
        try:
            self.driver.kubeconfig()
        except ClusterError:
            identity.forget(self.settings.name)

    def _skip(self, verb: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame({"part": [PART], "step": [verb], "skipped": [self.skipped]})


class Members:
    """The machines of a target as nodes of its cluster, against what the parameters say."""

    def __init__(self, target: "Target") -> None:
        self.target = target

    def table(self) -> "pd.DataFrame":
        """node, role, ready, version, address, …: the nodes as the API server knows them."""
        import pandas as pd

        if self.target.reached is None:
            return pd.DataFrame(columns=NODE_COLUMNS)
        return self.target.cluster.nodes()

    def login(self, *, timeout: float) -> "pd.DataFrame":
        """Wait until every machine takes a login; what they are. Raises WaitTimeout."""

        def refused(facts: "pd.DataFrame") -> str:
            return "; ".join(filter(None, facts["error"])) if "error" in facts else ""

        return wait_until(self.target.cluster.facts, refused, timeout)

    def wait(self, *, timeout: float, ready: bool = False) -> "pd.DataFrame":
        """Wait until every machine of the parameters is a node, or a Ready one. A dry run looks once.

        Raises:
            WaitTimeout: names those that are missing.
        """
        with self.target.steps.step(PART, "wait") as step:
            if self.target.dry_run:
                return step.done(self.table())
            missing = unready if ready else absent
            return step.done(wait_until(self.table, missing(self.target.settings), timeout))

    def verify(self, *, ready: bool = False) -> "pd.DataFrame":
        """Names, roles, versions and addresses are those of the parameters. A dry run does not judge.

        Raises:
            CheckFailed: with the table.
        """
        with self.target.steps.step(PART, "verify") as step:
            results = list(checks(self.target.settings, self.table(), ready=ready))
            return step.done(table(results) if self.target.dry_run else verify(results))

    def claim(self) -> "pd.DataFrame":
        """Mark the cluster with the platform's name and distribution, and its UID. Raises WrongCluster."""
        with self.target.steps.step(PART, "claim") as step:
            if self.target.reached is not None:
                settings = self.target.settings
                self.target.kube.claim(settings.name, settings.cluster.distribution)
            return step.done(self.target.touch())

    def release(self) -> "pd.DataFrame":
        """Take the mark off the cluster again. Raises WrongCluster."""
        with self.target.steps.step(PART, "release") as step:
            self.target.kube.release(self.target.settings.name)
            return step.done(self.target.touch())


def absent(settings: Settings) -> "Callable[[pd.DataFrame], str]":
    """What to wait for: every machine of the parameters is known to the API server."""

    def names(nodes: "pd.DataFrame") -> str:
        lacking = sorted({node.name for node in settings.cluster.nodes} - set(nodes["node"]))
        return f"not a member yet: {', '.join(lacking)}" if lacking else ""

    return names


def unready(settings: Settings) -> "Callable[[pd.DataFrame], str]":
    """What to wait for: every member is Ready."""

    def names(nodes: "pd.DataFrame") -> str:
        lacking = list(nodes.loc[~nodes["ready"].astype(bool), "node"])
        return absent(settings)(nodes) or (f"not Ready: {', '.join(lacking)}" if lacking else "")

    return names


def checks(settings: Settings, nodes: "pd.DataFrame", *, ready: bool) -> Iterator[Result]:
    """Each machine of the parameters is a node with its role and version, and there are no others."""
    live = nodes.set_index("node")
    wanted = {node.name: node for node in settings.cluster.nodes}
    for name, node in wanted.items():
        found = live.loc[name] if name in live.index else None
        expected = f"{node.role}, {settings.cluster.version}, {node.address}"
        shown = "no member" if found is None else f"{found['role']}, {found['version']}, {found['address']}"
        yield Result(f"member {name}", expected == shown, expected, shown, "run notebooks/install.ipynb")
    strangers = sorted(set(live.index) - set(wanted)) if wanted else []
    fix = "add it to cluster.nodes, or take it out of the cluster"
    yield Result("no other members", not strangers, "none", ", ".join(strangers) or "none", fix)
    if ready:
        lacking = list(nodes.loc[~nodes["ready"].astype(bool), "node"])
        fix = "target.queries.warning_events() shows why; the kubelet's log is on the machine"
        yield Result("all Ready", not lacking, "none", ", ".join(lacking) or "none", fix)
