"""The k3s driver: the steps in their order; servers one after the other, agents at once."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.clusters import kubeconfig
from platformlib.clusters.driver import OnEvent, silent
from platformlib.clusters.k3s import config, members, remove, rollback, snapshot, upgrade
from platformlib.clusters.k3s.artifacts import Release, fetch
from platformlib.clusters.k3s.kubectl import Kubectl
from platformlib.clusters.k3s.labels import label
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.preflight import preflight
from platformlib.clusters.k3s.prepare import prepare
from platformlib.clusters.k3s.state import State, state
from platformlib.clusters.table import Row, node_table, step_table, steps
from platformlib.errors import ClusterError
from platformlib.machines import Machine, connect, each
from platformlib.machines.facts import Facts, facts
from platformlib.paths import state_dir
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class K3s:
    """The driver of distribution `k3s`: one server with SQLite, or three with etcd, and any number of agents.

    Its files come from `cluster.k3s.bundle`, or are downloaded; `program`, a folder, takes the bundle's place.
    """

    def __init__(self, settings: Settings, program: Path | None = None, *, dry_run: bool = False) -> None:
        if program:
            k3s = settings.cluster.k3s.model_copy(update={"bundle": program})
            settings = settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"k3s": k3s})})
        self.settings, self.dry_run = settings, dry_run
        self.plans = {node.name: node for node in [*config.servers(settings), *config.agents(settings)]}

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """The machines by name, servers first; connected at their first command."""
        folder, ssh = state_dir(self.settings.name), self.settings.cluster.ssh
        return {name: connect(node, ssh, state=folder, dry_run=self.dry_run) for name, node in self.plans.items()}

    def _facts(self) -> dict[str, Facts]:
        return each(self.machines.values(), facts)

    def _states(self) -> dict[str, State]:
        return each(self.machines.values(), lambda machine: state(machine, self.settings))

    def _seats(self, states: dict[str, State] | None = None) -> list[Seat]:
        """All machines with what is on them now, servers first."""
        seen = states or self._states()
        return [Seat(machine, self.plans[name], seen[name]) for name, machine in self.machines.items()]

    def facts(self) -> "pd.DataFrame":
        import pandas as pd

        states = self._states()
        own = ("version", "owner", "etcd", "sqlite", "active", "firewall")
        rows = [
            vars(seen) | {f"k3s_{key}": getattr(states[name], key) for key in own}
            for name, seen in self._facts().items()
        ]
        return pd.DataFrame(rows)

    def preflight(self) -> "pd.DataFrame":
        return preflight(self.settings, self._facts(), self._states())

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Prepare all machines; found the cluster, or go on with it; restart members whose settings changed."""
        seen, states = self._facts(), self._states()
        preflight(self.settings, seen, states)
        releases = self._releases(seen, self.settings.cluster.version, on_event)
        on_event("preparing all machines: binary, images, configuration, unit")
        rows = steps(self.machines.values(), "prepare", partial(self._prepare, seen=seen, releases=releases))
        seats = self._seats(states)
        host, first = members.holder(seats, self.settings), seats[0]
        if host is None:
            on_event(f"{first.node.name}: founding the cluster")
        rows += self._bring(first, host if host and host.node.name != first.node.name else None)
        members_now = [seat for seat in seats[1:] if seat.seated]
        for seat in members_now:
            rows += self._bring(seat, host or first)
        self._adopt(host or first)
        return step_table(rows)

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Servers one by one, each healthy before the next; then all agents at once."""
        seats = self._seats()
        host = self._holder(seats)
        rows: list[Row] = []
        for seat in seats:
            if seat.server:
                on_event(f"{seat.node.name}: joining the servers" if not seat.seated else f"{seat.node.name}: a member")
                rows += self._bring(seat, host if seat.node.name != host.node.name else None)
        agents = {seat.node.name: seat for seat in seats if not seat.server}
        if agents:
            on_event(f"agents: {', '.join(agents)}")
        joined = partial(self._agent, agents=agents, host=host)
        return step_table(rows + steps([seat.machine for seat in agents.values()], "join", joined))

    def _prepare(self, machine: Machine, *, seen: dict[str, Facts], releases: dict[str, Release]) -> bool:
        own = seen[machine.name]
        return prepare(machine, self.settings, self.plans[machine.name], own, releases[own.architecture])

    def _bring(self, seat: Seat, host: Seat | None) -> list[Row]:
        """One machine into the cluster of `host`; without one, it founds the cluster or is the host itself."""
        return steps([seat.machine], "join" if host else "found", lambda _: self._brought(seat, host))

    def _brought(self, seat: Seat, host: Seat | None) -> bool:
        changed = members.join(seat, self.settings, host) if host else members.found(seat, self.settings)
        members.gate(seat, host or seat, self.settings.cluster.version)
        return label(seat.machine, seat.node, Kubectl((host or seat).machine)) or changed

    def _agent(self, machine: Machine, *, agents: dict[str, Seat], host: Seat) -> bool:
        return self._brought(agents[machine.name], host)

    def _holder(self, seats: list[Seat]) -> Seat:
        if host := members.holder(seats, self.settings):
            return host
        names = ", ".join(node.name for node in config.servers(self.settings))
        raise ClusterError(
            f"no server has a cluster yet ({names}); nothing was changed", fix="install first, then join"
        )

    def _releases(self, seen: dict[str, Facts], version: str, on_event: OnEvent) -> dict[str, Release]:
        """The verified files by `uname -m`; before any machine is touched."""
        kinds = sorted({own.architecture for own in seen.values()})
        return {kind: fetch(self.settings, version, kind, on_event) for kind in kinds}

    def kubeconfig(self) -> Path:
        return self._adopt(self._holder(self._seats()))

    def _adopt(self, host: Seat) -> Path:
        return kubeconfig.adopt(self.settings, members.admin_config(host.machine), config.url(self.settings, host.node))

    def nodes(self) -> "pd.DataFrame":
        return node_table(kubeconfig.existing(self.settings), self.settings.cluster.context)

    def snapshots(self) -> "pd.DataFrame":
        """node, id, version, kind, kib: what `rollback` can go back to, the newest last."""
        import pandas as pd

        servers = [self.machines[node.name] for node in config.servers(self.settings)]
        found = each(servers, snapshot.snapshots)
        rows = [{"node": name} | vars(one) for name, ones in found.items() for one in ones]
        return pd.DataFrame(rows, columns=["node", "id", "version", "kind", "kib"]).sort_values("id", ignore_index=True)

    def upgrade(self, version: str, on_event: OnEvent = silent) -> "pd.DataFrame":
        """A snapshot, then servers one by one, then agents, each drained; run again, it goes on where it stopped."""
        seats = self._seats()
        self._holder(seats)
        seen = self._facts()
        upgrade.refuse(seats, version)
        releases = self._releases(seen, version, on_event)
        files = {name: releases[own.architecture] for name, own in seen.items()}
        kind = "etcd" if seats[0].state.etcd else "sqlite"
        return step_table(upgrade.upgrade(seats, kind, version, files, on_event))

    def rollback(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Back to the newest snapshot and the version that wrote it; what was written since is lost."""
        return step_table(rollback.rollback(self._seats(), self.settings, on_event))

    def uninstall(self, on_event: OnEvent = silent, *, nodes: Sequence[str] = ()) -> "pd.DataFrame":
        """Take k3s off all machines, or off `nodes`, which are drained and deleted from the cluster first.

        Raises:
            ClusterError: an unknown node, or the servers that stay could not go on without it.
        """
        chosen = [self._named(name) for name in nodes] or list(self.machines.values())
        if nodes:
            self._leave([machine.name for machine in chosen], on_event)
        on_event(f"taking k3s off {', '.join(machine.name for machine in chosen)}")
        rows: list[Row] = []
        for role in ("worker", "control-plane"):
            rows += steps([it for it in chosen if self.plans[it.name].role == role], "remove", remove.remove)
        left = each(chosen, remove.leftovers)
        if not nodes:
            kubeconfig.path(self.settings).unlink(missing_ok=True)
        return step_table(rows).assign(left=lambda table: ["; ".join(left[name]) for name in table["node"]])

    def _named(self, name: str) -> Machine:
        if name not in self.machines:
            raise ClusterError(f"no node {name} in the parameters", fix=f"one of {', '.join(self.machines)}")
        return self.machines[name]

    def _leave(self, names: Sequence[str], on_event: OnEvent) -> None:
        """Drain the nodes and delete them, as long as the servers that stay can do their work."""
        seats = self._seats()
        staying = [seat for seat in seats if seat.server and seat.state.datastore and seat.node.name not in names]
        servers = len(config.servers(self.settings))
        if len(staying) <= servers // 2:
            fix = "uninstall() takes down the whole cluster; else let a rebuilt server join before the next"
            raise ClusterError(f"{len(staying)} of {servers} servers would be left: no quorum", fix=fix)
        kubectl = Kubectl(staying[0].machine)
        known = kubectl.members()
        for name in (name for name in names if name in known):
            on_event(f"{name}: draining and forgetting")
            if known[name].ready:
                kubectl.drain(name)
            kubectl.delete(name)
