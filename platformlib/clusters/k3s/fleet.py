"""The machines of the parameters: which of them answer, what is on them, and what cannot be done without the others.

A machine that does not answer is left out of what the others can do without it, and named at the end; what it is needed
for is refused: the founding of a cluster, a change of the datastore, an upgrade where it is a server.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from platformlib.clusters.k3s import config, members
from platformlib.clusters.k3s.kubectl import Kubectl
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.service import again
from platformlib.clusters.k3s.state import state
from platformlib.errors import ClusterError, CommandFailed, NodeError, NodeUnreachable
from platformlib.machines import Machine, connect, each
from platformlib.machines.facts import Facts, facts
from platformlib.paths import state_dir
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class Fleet:
    """The machines by name, servers first.

    Args:
        program: a folder of releases that takes the place of `cluster.k3s.bundle`.
        dry_run: the machines refuse every change.
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

    def _reach(self, work: Callable[[Machine], T]) -> tuple[dict[str, T], dict[str, str]]:
        """The answers of the machines that can be asked, and why others cannot."""

        def asked(machine: Machine) -> T | NodeError:
            try:
                return work(machine)
            except CommandFailed:
                raise  # it answers, so this is no question of reaching it
            except NodeError as error:
                return error

        answers = each(self.machines.values(), asked)
        found = {name: answer for name, answer in answers.items() if not isinstance(answer, NodeError)}
        lost = {name: str(answer).splitlines()[0] for name, answer in answers.items() if isinstance(answer, NodeError)}
        return found, lost

    def _seats(self) -> tuple[list[Seat], dict[str, str]]:
        """The machines that answer, servers first, with what is on them now; and those that do not."""
        states, lost = self._reach(lambda machine: state(machine, self.settings))
        foreign = [name for name, seen in states.items() if seen.owner not in ("", self.settings.name)]
        if foreign:
            raise ClusterError(
                f"{', '.join(foreign)}: of another platform ({states[foreign[0]].owner})",
                fix="correct cluster.nodes, or uninstall that platform with its own parameters",
            )
        return [Seat(self.machines[name], self.plans[name], seen) for name, seen in states.items()], lost

    def _need_all(self, what: str) -> list[Seat]:
        """All seats, for a verb that needs every machine. Raises ClusterError."""
        seats, lost = self._seats()
        self._refuse_without(lost, f"{what} needs every machine")
        return seats

    def _need_servers(self, what: str) -> tuple[list[Seat], dict[str, str]]:
        """The seats, for a verb that needs every server, and the agents that do not answer. Raises ClusterError."""
        seats, lost = self._seats()
        servers = {name: why for name, why in lost.items() if self.plans[name].role == "control-plane"}
        self._refuse_without(servers, f"{what} needs every server")
        return seats, lost

    def _refuse_without(self, lost: dict[str, str], why: str) -> None:
        if lost:
            raise ClusterError(
                "\n  ".join([f"{why}; nothing was changed", *lost.values()]),
                fix=f"start them; or, if they are gone for good, take them off first: uninstall(nodes={list(lost)!r})",
            )

    def _look(self) -> tuple[list[Seat], dict[str, Facts], dict[str, str]]:
        """The seats of the machines that answer, their facts, and those that do not answer."""
        seen, lost = self._reach(lambda machine: (facts(machine), state(machine, self.settings)))
        seats = [Seat(self.machines[name], self.plans[name], pair[1]) for name, pair in seen.items()]
        return seats, {name: pair[0] for name, pair in seen.items()}, lost

    def _holder(self, seats: list[Seat], lost: dict[str, str]) -> Seat:
        """The server whose cluster it is.

        Raises:
            NodeUnreachable: no server that answers has one, and a server that does not answer may have it.
            ClusterError: there is none yet.
        """
        if found := members.holder(seats, self.settings):
            return found
        servers = [node.name for node in config.servers(self.settings)]
        if missing := [name for name in servers if name in lost]:
            raise NodeUnreachable(", ".join(missing), f"may have the cluster, but {lost[missing[0]]}")
        names = ", ".join(servers)
        raise ClusterError(
            f"no server has a cluster yet ({names}); nothing was changed", fix="install first, then join"
        )

    def _not_held(self, seats: list[Seat]) -> None:
        if held := [seat for seat in seats if seat.state.hold]:
            names = ", ".join(seat.node.name for seat in held)
            raise ClusterError(f"{names}: held by an interrupted {held[0].state.hold}", fix=again(held[0].state.hold))

    def _nothing_lost(self, everyone: list[Seat], seats: list[Seat], *, force: bool) -> None:
        """Refuse, before anything is touched, what a drain of `seats` would refuse in the middle."""
        speaker = members.speaker(everyone)
        if force or speaker is None:
            return
        found = [
            f"{seat.node.name}: {pod.namespace}/{pod.name}"
            for seat in seats
            for pod in Kubectl(speaker.machine).pods(seat.node.name)
            if pod.lost == "the pod"
        ]
        if found:
            raise ClusterError(
                "pods that nothing would start again; nothing was changed\n  " + "\n  ".join(found),
                fix="move or delete them, or give force=True to end them",
            )

    def _may_found(self, seats: list[Seat], lost: dict[str, str]) -> None:
        """A server that does not answer may have the cluster's data: a second cluster must not be founded beside it."""
        servers = [node.name for node in config.servers(self.settings)]
        missing = [name for name in servers if name in lost]
        if missing and (len(missing) == len(servers) or members.holder(seats, self.settings) is None):
            raise ClusterError(
                f"no server that answers has a cluster, and {', '.join(missing)} may have one; nothing was changed\n  "
                + "\n  ".join(lost[name] for name in missing),
                fix="start it, or take it out of the parameters",
            )

    def _told(self, table: "pd.DataFrame", lost: dict[str, str]) -> "pd.DataFrame":
        """The table; for machines that were left out, an error that says so, after the others were done."""
        if not lost:
            return table
        if self.dry_run:
            import pandas as pd

            rows = [{"node": name, "step": "login", "action": f"left out: {why}"} for name, why in lost.items()]
            return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
        raise ClusterError(
            f"done on all others, but {len(lost)} did not answer\n  " + "\n  ".join(lost.values()),
            fix=f"start them and run this again; or take them off: uninstall(nodes={sorted(lost)!r})",
        )
