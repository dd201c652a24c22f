"""Going back to the last snapshot, with the binary that wrote it. What was written since is lost: that is its meaning.

Each step can be repeated, so a rollback that was cut off is run again from its beginning.
"""

from functools import partial

from platformlib.clusters.driver import OnEvent
from platformlib.clusters.k3s import config, layout, members, prepare, service, snapshot
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.snapshot import Snapshot
from platformlib.clusters.table import Row, steps
from platformlib.errors import ClusterError
from platformlib.machines import Machine, each
from platformlib.settings import Settings

STOP = 'systemctl stop "$1"; systemctl reset-failed "$1" 2>/dev/null; true'
# The data from before is kept beside, once: it is the evidence of what went wrong.
ASIDE = f"""set -eu
db={layout.SERVER}/db; kept={layout.SERVER}/db.before-$1
[ -e $db ] || exit 0
if [ -e $kept ]; then rm -rf $db; else mv $db $kept; fi
"""
SQLITE = f"""set -eu
rm -rf {layout.SERVER}/db.new; cp -a "$1/db" {layout.SERVER}/db.new; mv {layout.SERVER}/db.new {layout.SERVER}/db
"""
# k3s refuses a second reset in a row while its flag is there, and any while its configuration says whom to join.
ETCD = f"""set -eu
rm -f {layout.SERVER}/db/reset-flag {layout.PEER}
file=$(ls "$1"/etcd/* | head -n 1)
{layout.BINARY} server --cluster-reset --cluster-reset-restore-path="$file" > /var/log/k3s-restore.log 2>&1 ||
  {{ tail -n 20 /var/log/k3s-restore.log >&2; exit 1; }}
"""


def rollback(seats: list[Seat], settings: Settings, on_event: OnEvent) -> list[Row]:
    """All machines to the snapshot's version, the datastore to its content.

    Raises:
        ClusterError: no snapshot, or a machine lacks the binary of its version.
    """
    servers = [seat for seat in seats if seat.server]
    machine, chosen = snapshot.newest([seat.machine for seat in servers])
    host = next(seat for seat in servers if seat.machine is machine)
    _require(seats, chosen)
    on_event(f"stopping k3s everywhere, then back to {chosen.version} as of {chosen.id[:16]}")
    agents = [seat for seat in seats if not seat.server]
    for group in (agents, servers):
        each([seat.machine for seat in group], lambda it: it.shell(STOP, _unit(seats, it), timeout=180))
    rows = steps([seat.machine for seat in seats], "binary", lambda it: _switch(it, chosen.version))
    rows += steps([machine], "restore", partial(_restore, host=host, chosen=chosen, settings=settings))
    for seat in servers:
        if seat is not host:
            on_event(f"{seat.node.name}: joining the restored server")
            rows += steps(
                [seat.machine], "rejoin", partial(_rejoin, seat=seat, host=host, chosen=chosen, settings=settings)
            )
    rows += steps([seat.machine for seat in agents], "start", lambda it: _start(_seat(seats, it), host, chosen))
    return rows


def _require(seats: list[Seat], chosen: Snapshot) -> None:
    path = layout.program(chosen.version)
    there = each([seat.machine for seat in seats], lambda it: it.run(["test", "-x", path], check=False).ok)
    if lacking := [name for name, ok in there.items() if not ok]:
        raise ClusterError(
            f"no k3s {chosen.version} on {', '.join(lacking)}; nothing was changed", fix=f"put it at {path}"
        )


def _switch(machine: Machine, version: str) -> bool:
    prepare.switch(machine, version)
    return True


def _restore(_: Machine, *, host: Seat, chosen: Snapshot, settings: Settings) -> bool:
    host.machine.shell(ASIDE, chosen.id, timeout=180)
    script = ETCD if chosen.kind == "etcd" else SQLITE
    host.machine.shell(script, chosen.path, timeout=900)
    service.settle(host.machine, host.node)
    members.gate(host, host, chosen.version)
    members.record(host, settings)
    return True


def _rejoin(_: Machine, *, seat: Seat, host: Seat, chosen: Snapshot, settings: Settings) -> bool:
    """The restored server is alone in its etcd; the others come back without their data."""
    seat.machine.write(layout.PEER, config.peer(config.url(settings, host.node)), 0o600)
    seat.machine.shell(ASIDE, chosen.id, timeout=180)
    return _start(seat, host, chosen)


def _start(seat: Seat, host: Seat, chosen: Snapshot) -> bool:
    service.settle(seat.machine, seat.node)
    members.gate(seat, host, chosen.version)
    return True


def _seat(seats: list[Seat], machine: Machine) -> Seat:
    return next(seat for seat in seats if seat.machine is machine)


def _unit(seats: list[Seat], machine: Machine) -> str:
    return layout.unit(_seat(seats, machine).node.role)
