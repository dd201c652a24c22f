"""Moving to another version: a snapshot, then servers one by one, then agents with drain and uncordon.

A node is touched only while all others are Ready. What is done is read from the machines, so an upgrade that was cut
off goes on where it stopped; its snapshot is made once, before the first server is switched.
"""

from collections.abc import Mapping
from functools import partial

from platformlib.clusters.driver import OnEvent
from platformlib.clusters.k3s import layout, members, prepare, service, skew, snapshot
from platformlib.clusters.k3s.artifacts import Release
from platformlib.clusters.k3s.kubectl import Kubectl, wait
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.table import Row, steps
from platformlib.errors import ClusterError
from platformlib.machines import Machine

GATE = 300.0


def refuse(seats: list[Seat], version: str) -> None:
    """Raises ClusterError where the version skew policy does not allow the step; see `skew.refuse`."""
    servers, agents = (
        {seat.node.name: seat.state.version for seat in seats if seat.server is is_server}
        for is_server in (True, False)
    )
    skew.refuse(servers, agents, version)


def upgrade(seats: list[Seat], kind: str, version: str, files: Mapping[str, Release], on_event: OnEvent) -> list[Row]:
    """All machines, servers first, to `version`; `files` are the release's for each machine.

    Raises:
        ClusterError: a node is not Ready; nothing further was touched.
    """
    servers = [seat for seat in seats if seat.server]
    for seat in seats:
        if not seat.state.active:
            service.settle(seat.machine, seat.node)
    health(seats, "before the upgrade")
    on_event("putting the new binary beside the old one")
    rows = steps([seat.machine for seat in seats], "binary", lambda it: _send(it, files[it.name]))
    if all(seat.state.version != version for seat in servers):
        on_event(f"{servers[0].node.name}: snapshot of {kind}")
        rows += steps([servers[0].machine], "snapshot", partial(_save, kind=kind, version=servers[0].state.version))
    for seat in seats:
        on_event(f"{seat.node.name}: {seat.state.version} to {version}")
        rows += steps([seat.machine], "upgrade", partial(_one, seat=seat, host=servers[0], version=version))
        health(seats, f"after {seat.node.name}")
    return rows


def _save(machine: Machine, *, kind: str, version: str) -> bool:
    return bool(snapshot.save(machine, kind, version))


def _one(_: Machine, *, seat: Seat, host: Seat, version: str) -> bool:
    return _server(seat, version) if seat.server else _agent(seat, host, version)


def _send(machine: Machine, release: Release) -> bool:
    return any([prepare.program(machine, release), prepare.images(machine, release)])


def _server(seat: Seat, version: str) -> bool:
    """k3s restarts below its pods: they go on, so a server is not drained."""
    changed = seat.state.version != version
    if changed:
        prepare.switch(seat.machine, version)
    restarted = service.settle(seat.machine, seat.node)
    members.gate(seat, seat, version)
    return changed or restarted


def _agent(seat: Seat, host: Seat, version: str) -> bool:
    """Drain, switch, uncordon. A node that someone else had cordoned stays so: a mark on it says that it was us."""
    kubectl, name = Kubectl(host.machine), seat.node.name
    if seat.state.version != version:
        if not kubectl.members()[name].cordoned:
            seat.machine.write(layout.DRAINED, version)
        kubectl.drain(name)
        prepare.switch(seat.machine, version)
    restarted = service.settle(seat.machine, seat.node)
    members.gate(seat, host, version)
    ours = seat.machine.read(layout.DRAINED) is not None
    if ours:
        kubectl.uncordon(name)
        seat.machine.run(["rm", "-f", layout.DRAINED])
    return seat.state.version != version or restarted or ours


def health(seats: list[Seat], when: str) -> None:
    """The gate between two steps: every API server ready, every node Ready.

    Raises:
        ClusterError: naming the node and the cause.
    """
    wait(lambda: _ill(seats), f"{when}, the cluster is not healthy", GATE)


def _ill(seats: list[Seat]) -> str:
    for seat in seats:
        if seat.server and not Kubectl(seat.machine).healthy():
            return f"the API server of {seat.node.name} is not ready"
    known = Kubectl(seats[0].machine).members()
    missing = [seat.node.name for seat in seats if seat.node.name not in known]
    if missing:
        raise ClusterError(f"not in the cluster: {', '.join(missing)}", fix="run install and join first")
    return "; ".join(f"{member.name}: {member.cause}" for member in known.values() if not member.ready)
