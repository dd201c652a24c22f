"""The k3s driver: its verbs, each a list of phases; servers one after the other, agents at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.clusters import kubeconfig
from platformlib.clusters.driver import OnEvent, silent
from platformlib.clusters.k3s import config, host, layout, maintain, members, remove, rollback, snapshots, upgrade
from platformlib.clusters.k3s.artifacts import Release, fetch
from platformlib.clusters.k3s.fleet import Fleet
from platformlib.clusters.k3s.kubectl import Kubectl
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.preflight import blocked, preflight
from platformlib.clusters.k3s.snapshots import HERE, Snapshot
from platformlib.clusters.k3s.state import NOTHING
from platformlib.clusters.k3s.tasks import Task, perform
from platformlib.clusters.table import node_table
from platformlib.errors import ClusterError
from platformlib.machines import each
from platformlib.machines.facts import Facts, facts
from platformlib.paths import state_dir

if TYPE_CHECKING:
    import pandas as pd

Phases = list[list[Task]]
SNAPSHOT_COLUMNS = ["node", "id", "origin", "kind", "version", "created", "age", "kib"]


class K3s(Fleet):
    """The driver of distribution `k3s`: one server with SQLite or etcd, or three or five with etcd, and agents.

    With `dry_run`, each verb answers with the table of what it would do (node, step, action), and changes nothing.
    """

    # what is there

    def facts(self) -> "pd.DataFrame":
        """What the machines are, one row each; a machine that does not answer has its `error` alone."""
        import pandas as pd

        seats, looked, lost = self._look()
        own = ("version", "owner", "hold", "etcd", "sqlite", "active", "firewall", "selinux")
        rows = [
            vars(looked[seat.node.name]) | {f"k3s_{key}": getattr(seat.state, key) for key in own} | {"error": ""}
            for seat in seats
        ]
        return pd.DataFrame([*rows, *({"node": name, "error": why} for name, why in lost.items())])

    def preflight(self) -> "pd.DataFrame":
        """Every rule for every machine: node, check, ok, expected, found, fix. Raises PreflightFailed."""
        return self._judged(*self._look())

    def _judged(self, seats: list[Seat], looked: dict[str, Facts], lost: dict[str, str]) -> "pd.DataFrame":
        found = {seat.node.name: seat.state for seat in seats}
        shut = blocked(self.settings, {seat.node.name: seat.machine for seat in seats}, found)
        return preflight(self.settings, looked, found, shut=shut, lost=lost)

    def nodes(self) -> "pd.DataFrame":
        return node_table(kubeconfig.existing(self.settings), self.settings.cluster.context)

    def kubeconfig(self) -> Path:
        return self._adopt(self._holder(*self._seats()))

    def _adopt(self, host_seat: Seat) -> Path:
        text = members.admin_config(host_seat.machine)
        return kubeconfig.adopt(self.settings, text, config.url(self.settings, host_seat.node))

    # install and join

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Prepare all machines; found the cluster, or continue with it; restart members whose settings changed."""
        seats, looked, lost = self._look()
        self._may_found(seats, lost)
        self._judged(seats, looked, {})
        prepare = self._preparing(seats, looked, self.settings.cluster.version, on_event)
        host_seat = members.holder(seats, self.settings)
        first = next(seat for seat in seats if seat.server)
        phases = [prepare, [self._bringing(first, host_seat if host_seat and host_seat is not first else None)]]
        continuing = [seat for seat in seats if seat.seated and seat is not first]
        phases += [[self._bringing(seat, host_seat or first)] for seat in continuing]
        table = perform(phases, on_event, dry_run=self.dry_run)
        if not self.dry_run:
            self._adopt(host_seat or first)
        return self._told(table, lost)

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Servers one by one, each proven before the next; then all agents at once."""
        seats, lost = self._seats()
        host_seat = members.speaker(seats) or self._holder(seats, lost)
        servers = [seat for seat in seats if seat.server]
        phases = [[self._bringing(seat, host_seat if seat is not host_seat else None)] for seat in servers]
        phases.append([self._bringing(seat, host_seat) for seat in seats if not seat.server])
        return self._told(perform([phase for phase in phases if phase], on_event, dry_run=self.dry_run), lost)

    def _preparing(
        self, seats: list[Seat], looked: dict[str, Facts], version: str, on_event: OnEvent
    ) -> list[Task]:  # fmt: skip
        releases = self._releases({seat.node.name: looked[seat.node.name] for seat in seats}, version, on_event)

        def prepare(seat: Seat) -> bool:
            return host.prepare(seat.machine, self._files(seat, looked), seat.state, releases[seat.node.name])

        def would(seat: Seat) -> str:
            return host.plan(seat.machine, self._files(seat, looked), version)

        return [Task(seat.machine, "prepare", partial(would, seat), partial(prepare, seat)) for seat in seats]

    def _files(self, seat: Seat, looked: dict[str, Facts]) -> list[host.File]:
        return host.wanted(self.settings, seat.node, looked[seat.node.name], seat.state)

    def _bringing(self, seat: Seat, host_seat: Seat | None) -> Task:
        """One machine into the cluster of `host_seat`; without one, it founds the cluster or is the host itself."""
        if seat.seated:
            would = "unchanged, or would restart k3s where its inputs changed"
        else:
            would = f"would join the cluster of {host_seat.node.name}" if host_seat else "would found the cluster"
        return Task(seat.machine, "join" if host_seat else "found", would, partial(self._brought, seat, host_seat))

    def _brought(self, seat: Seat, host_seat: Seat | None) -> bool:
        changed = members.join(seat, self.settings, host_seat) if host_seat else members.found(seat, self.settings)
        members.gate(seat, host_seat or seat, self.settings.cluster.version, started=changed)
        return members.label(seat.machine, seat.node, Kubectl((host_seat or seat).machine)) or changed

    def _releases(self, looked: dict[str, Facts], version: str, on_event: OnEvent) -> dict[str, Release]:
        """The verified files for each machine, before any is touched; a dry run downloads nothing."""
        if self.dry_run:
            return dict.fromkeys(looked, Release(version, Path(), None))
        kinds = sorted({own.architecture for own in looked.values()})
        found = {kind: fetch(self.settings, version, kind, on_event) for kind in kinds}
        return {name: found[own.architecture] for name, own in looked.items()}

    # versions

    def upgrade(self, version: str, on_event: OnEvent = silent, *, force: bool = False) -> "pd.DataFrame":
        """A snapshot, then servers one by one, then agents, each drained; run again, it continues where it stopped.

        Args:
            force: when an agent is drained, end pods as well that nothing starts again.

        Raises:
            ClusterError: the version must not follow, a node is not Ready, or pods would be lost; nothing further was
                touched.
        """
        seats, lost = self._need_servers("an upgrade")
        host_seat = self._holder(seats, lost)
        self._not_held(seats)
        kind = "etcd" if host_seat.state.etcd else "sqlite"
        now = {seat.node.name: seat.state.version for seat in seats if seat.server}
        agents = {seat.node.name: seat.state.version for seat in seats if not seat.server}
        upgrade.refuse(now, agents, version, etcd=kind == "etcd")
        drained = [seat for seat in seats if not seat.server and seat.state.version != version]
        self._nothing_lost(seats, drained, force=force)
        looked = each([seat.machine for seat in seats], facts)
        files = self._releases(looked, version, on_event)
        save = self._saving(host_seat, kind, seats, restart=False)
        phases = upgrade.phases(seats, version, files, save, force=force)
        return self._told(perform(phases, on_event, dry_run=self.dry_run), lost)

    # snapshots

    @property
    def _copies(self) -> Path:
        """Where this host keeps copies of snapshots."""
        return state_dir(self.settings.name) / "snapshots"

    def _saving(self, seat: Seat, kind: str, seats: list[Seat], *, restart: bool) -> Phases:
        return maintain.saving(seat, kind, seats, self.settings, self._copies, restart=restart)

    def _known(self, seats: list[Seat]) -> list[Snapshot]:
        servers = [seat for seat in seats if seat.server]
        found = [it for own in each([seat.machine for seat in servers], snapshots.on_server).values() for it in own]
        if self.settings.cluster.k3s.snapshots.s3 and (speaker := members.speaker(servers)):
            found += snapshots.in_s3(speaker.machine)
        return [*found, *snapshots.here(self._copies)]

    def snapshots(self) -> "pd.DataFrame":
        """What `rollback` and `restore` can go back to, the newest last.

        Returns:
            One row for each copy, so a snapshot at two places has two.

            Columns: node, id, origin, kind, version, created (UTC), age, kib
        """
        import pandas as pd

        rows = [vars(it) | {"age": snapshots.age(it)} for it in sorted(self._known(self._seats()[0]))]
        table = pd.DataFrame(rows, columns=SNAPSHOT_COLUMNS)
        return table.assign(created=pd.to_datetime(table["created"], unit="s", utc=True))

    def snapshot(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Copy the datastore now, and the copy to a second machine. With SQLite, k3s stops for some seconds."""
        seats, lost = self._seats()
        self._not_held(seats)
        host_seat = members.speaker(seats) or self._holder(seats, lost)
        kind = "etcd" if host_seat.state.etcd else "sqlite"
        return perform(self._saving(host_seat, kind, seats, restart=True), on_event, dry_run=self.dry_run)

    def rollback(self, snapshot: str = "", on_event: OnEvent = silent) -> "pd.DataFrame":
        """Back to a snapshot and the version that wrote it; what was written since is lost.

        Args:
            snapshot: its id, from `snapshots()`; there is no default.

        Raises:
            ClusterError: no such snapshot, with a list of all; a machine does not answer; or a version is missing.
        """
        seats = self._need_all("a rollback")
        chosen = snapshots.choose(self._known(seats), snapshot)
        first = rollback.first(seats, chosen)
        version = chosen.version or first.state.version
        phases = [*self._brought_here(chosen, first), *self._binaries(seats, version, on_event)]
        speaker = members.speaker(seats)
        fresh = first.state.restored != chosen.id and not any(seat.state.hold for seat in seats)
        if fresh and speaker and speaker.state.etcd:
            phases += self._saving(speaker, "etcd", seats, restart=False)
        phases += rollback.phases(seats, first, self._placed(chosen, first), version, self.settings)
        table = perform(phases, on_event, dry_run=self.dry_run)
        self._name_strangers(first, on_event)
        return table

    def restore(self, snapshot: str = "", on_event: OnEvent = silent) -> "pd.DataFrame":
        """A cluster from a snapshot on machines that have none: after all servers were lost. Then `join`.

        Args:
            snapshot: the id of a copy on this host, or of one that was put onto a server.

        Raises:
            ClusterError: a server has a cluster, or does not answer and may have one; or there is no such snapshot.
        """
        seats, looked, lost = self._look()
        if missing := [node.name for node in config.servers(self.settings) if node.name in lost]:
            raise ClusterError(f"{', '.join(missing)} do not answer and may have a cluster", fix="start them first")
        chosen = snapshots.choose(self._known(seats), snapshot)
        first = rollback.first(seats, chosen)
        begun = f"restore {chosen.id}"
        if taken := [
            seat.node.name for seat in seats if seat.server and seat.state.datastore and seat.state.hold != begun
        ]:
            raise ClusterError(f"{', '.join(taken)}: there is a cluster", fix="rollback(snapshot) takes it back")
        self._judged([seat for seat in seats if seat.state.hold != begun], looked, {})
        version = chosen.version or self.settings.cluster.version
        prepare = self._preparing(seats, looked, version, on_event)
        founding = rollback.founding(first, self._placed(chosen, first), version, self.settings)
        phases = [prepare, *self._brought_here(chosen, first), *founding]
        table = perform(phases, on_event, dry_run=self.dry_run)
        if not self.dry_run:
            self._adopt(first)
        self._name_strangers(first, on_event)
        return self._told(table, lost)

    def _placed(self, chosen: Snapshot, first: Seat) -> Snapshot:
        """A copy from this host, as it will be on the server."""
        path = f"{layout.SNAPSHOTS}/{chosen.id}"
        return replace(chosen, node=first.node.name, path=path) if chosen.node == HERE else chosen

    def _brought_here(self, chosen: Snapshot, first: Seat) -> Phases:
        work = partial(snapshots.bring, Path(chosen.path), chosen.id, first.machine)
        task = Task(first.machine, "bring", "would bring the snapshot from this host", work)
        return [[task]] if chosen.node == HERE else []

    def _binaries(self, seats: list[Seat], version: str, on_event: OnEvent) -> Phases:
        """The version's binary onto the machines that lack it."""
        path = layout.program(version)
        there = each([seat.machine for seat in seats], lambda it: it.run(["test", "-x", path], check=False).ok)
        lacking = [seat for seat in seats if not there[seat.node.name]]
        looked = each([seat.machine for seat in lacking], facts)
        releases = self._releases(looked, version, on_event) if lacking else {}

        def send(seat: Seat) -> bool:
            release = releases[seat.node.name]
            return any([host.program(seat.machine, release), host.images(seat.machine, release)])

        tasks = [Task(it.machine, "binary", f"would put k3s {version} there", partial(send, it)) for it in lacking]
        return [tasks] if tasks else []

    def _name_strangers(self, first: Seat, on_event: OnEvent) -> None:
        """Say which nodes of the snapshot the parameters do not have."""
        if not self.dry_run and (strangers := sorted(set(Kubectl(first.machine).members()) - set(self.plans))):
            on_event(
                f"the snapshot has nodes that the parameters do not have: {', '.join(strangers)}; if they are gone, "
                "kubectl delete node"
            )

    def migrate(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """SQLite to etcd on the one server: a snapshot, the move, a proof. Before `datastore: etcd` or more servers.

        Raises:
            ClusterError: there is no SQLite to move.
        """
        seats = [seat for seat in self._seats()[0] if seat.server and seat.state.datastore]
        if not seats or (seats[0].state.etcd and seats[0].state.hold != "migrate"):
            raise ClusterError("there is no SQLite datastore to move", fix="facts() says what there is")
        phases = maintain.migrating(seats[0], self._saving(seats[0], "sqlite", seats, restart=True))
        return perform(phases, on_event, dry_run=self.dry_run)

    # keys

    def rotate_certificates(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """New client and server certificates on every machine, one after the other; the authorities stay."""
        return self._rotated("certificates", maintain.certificates, on_event)

    def rotate_token(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """A new servers' token, given to all servers; agents have one of their own, which stays."""
        return self._rotated("token", partial(maintain.token, settings=self.settings), on_event)

    def rotate_encryption(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """A new key for Secrets at rest; all are encrypted anew. Only with `hardening`."""
        if not self.settings.cluster.k3s.hardening:
            raise ClusterError(
                "Secrets are not encrypted at rest", fix="cluster.k3s.hardening, before the first install"
            )
        return self._rotated("encryption key", maintain.encryption, on_event)

    def _rotated(self, what: str, work: Callable[[list[Seat], Seat], Phases], on_event: OnEvent) -> "pd.DataFrame":
        seats = self._need_all(f"a new {what}")
        self._not_held(seats)
        speaker = members.speaker(seats) or self._holder(seats, {})
        return perform(work(seats, speaker), on_event, dry_run=self.dry_run)

    # removal

    def uninstall(
        self,
        on_event: OnEvent = silent,
        *,
        nodes: Sequence[str] = (),
        force: bool = False,
        delete_data: Sequence[str] = (),
    ) -> "pd.DataFrame":
        """Take k3s off all machines; or off `nodes`, one after the other, out of a cluster that goes on.

        Args:
            nodes: which; a machine that is gone for good is taken out of the cluster alone.
            force: when a node is drained, end pods as well that nothing starts again.
            delete_data: what goes besides: `volumes` of pods, `snapshots`; nothing of them goes unless named.

        Returns:
            One row for each step; `left` says what is still on a machine.

            Columns: node, step, changed, seconds, left

        Raises:
            ClusterError: an unknown node, no quorum without it, or pods that nothing would start again.
        """
        if unknown := [name for name in nodes if name not in self.machines]:
            raise ClusterError(
                f"no node {', '.join(unknown)} in the parameters", fix=f"one of {', '.join(self.machines)}"
            )
        if unknown := sorted(set(delete_data) - remove.DATA):
            raise ClusterError(f"no such data: {', '.join(unknown)}", fix=f"of {', '.join(sorted(remove.DATA))}")
        seats, lost = self._seats()
        phases = self._leaving(seats, lost, nodes, delete_data, force=force) if nodes else _ending(seats, delete_data)
        table = perform(phases, on_event, dry_run=self.dry_run)
        if self.dry_run:
            return table
        chosen = [seat.machine for seat in seats if not nodes or seat.node.name in nodes]
        left = {name: "; ".join(lines) for name, lines in each(chosen, remove.leftovers).items()}
        left |= dict.fromkeys(lost, "it does not answer: not cleaned")
        if not nodes:
            kubeconfig.path(self.settings).unlink(missing_ok=True)
        table = table.assign(left=[left.get(name, "") for name in table["node"]])
        return table if nodes else self._told(table, lost)

    def _leaving(
        self, seats: list[Seat], lost: dict[str, str], nodes: Sequence[str], data: Sequence[str], *, force: bool
    ) -> Phases:  # fmt: skip
        speaker = remove.refuse(seats, nodes, list(lost))
        there = {seat.node.name: seat for seat in seats}
        self._nothing_lost(seats, [there[name] for name in nodes if name in there], force=force)
        leaving = [there.get(name) or Seat(self.machines[name], self.plans[name], NOTHING) for name in nodes]
        leaving.sort(key=lambda seat: seat.server)
        found = (
            remove.leaving(seat, speaker, reached=seat.node.name in there, force=force, data=data) for seat in leaving
        )
        return [phase for phases in found for phase in phases]


def _ending(seats: list[Seat], data: Sequence[str]) -> Phases:
    """Agents, then servers."""
    groups = ([seat for seat in seats if seat.server is wanted] for wanted in (False, True))
    return [[remove.cleaning(seat, data) for seat in group] for group in groups if group]
