"""What is done to a running cluster: a snapshot on demand, SQLite to etcd, new certificates, tokens, encryption keys.

Servers are restarted one after the other, each proven before the next.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from platformlib.clusters.k3s import config, layout, members, rollback, service, snapshots
from platformlib.clusters.k3s.kubectl import Kubectl, wait
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.tasks import Task
from platformlib.errors import ClusterError
from platformlib.settings import Settings

MIGRATION = "platformlib-k3s-migration"
# k3s migrates while it starts, and only if etcd has no data yet: one that is cut off and started again would go on with
# half of it. So it runs once, as a unit that nothing starts again, while k3s's own unit is held. What a cut left of
# etcd is set aside; state.db is renamed by k3s as the last thing, and is whole until then. $1 seconds.
MIGRATE = f"""{rollback.NAMED}
db={layout.DATABASE}
systemctl stop {MIGRATION} 2>/dev/null || true; systemctl reset-failed {MIGRATION} 2>/dev/null || true
if [ -e $db/state.db ]; then
  if [ -e $db/etcd ]; then mv $db/etcd $aside/; fi
  systemd-run --quiet --unit={MIGRATION} --property=Type=exec --property=KillMode=process --property=Restart=no \\
    --property=EnvironmentFile=-{layout.environment_file("control-plane")} {layout.BINARY} server
  end=$(( $(date +%s) + $1 ))
  until [ -e $db/state.db.migrated ] && {layout.BINARY} kubectl get --raw /readyz >/dev/null 2>&1; do
    if [ $(date +%s) -gt $end ] || ! systemctl is-active --quiet {MIGRATION}; then
      journalctl -b -u {MIGRATION} -o cat -n 20 >&2; systemctl stop {MIGRATION}; exit 1
    fi
    sleep 1
  done
  systemctl stop {MIGRATION}
fi
rmdir $aside 2>/dev/null || true
if [ ! -e $db/state.db.migrated ]; then echo "nothing was migrated" >&2; exit 1; fi
sync
"""
OBJECTS = "namespaces,nodes,persistentvolumes,customresourcedefinitions,configmaps,secrets,deployments,statefulsets"
# The new token never is an argument: k3s makes it, and its file is where it comes from.
ROTATE_TOKEN = f"""set -eu
umask 077
{layout.BINARY} token rotate >/dev/null
sed 's/^K10.*::[^:]*://' {layout.SERVER}/token > {layout.TOKEN}.new; sync {layout.TOKEN}.new
mv {layout.TOKEN}.new {layout.TOKEN}
"""


def saving(
    seat: Seat, kind: str, seats: list[Seat], settings: Settings, folder: Path, *, restart: bool
) -> list[list[Task]]:  # fmt: skip
    """A snapshot of one server, and its copy at a second place.

    Args:
        seats: all machines; another server among them takes the copy, else this host does.
        folder: where this host keeps copies.
        restart: start a server again that was stopped for its snapshot.
    """
    keep, made = settings.cluster.k3s.snapshots.keep, []
    others = [it for it in seats if it.server and it is not seat and it.state.owner == settings.name]
    target = others[0].machine if others else None
    place = target.name if target else snapshots.HERE

    def save() -> bool:
        made.append(snapshots.save(seat.machine, kind, seat.state.version, keep))
        if restart and kind == "sqlite":
            service.settle(seat.machine, seat.node.role)
            members.gate(seat, seat)
        return True

    def copy() -> bool:
        found = next(it for it in snapshots.on_server(seat.machine) if it.id == made[0])
        snapshots.copy(found, seat.machine, target, folder, keep)
        return True

    stops = ", for which k3s stops some seconds" if kind == "sqlite" else ""
    return [
        [Task(seat.machine, "snapshot", f"would copy the datastore ({kind}){stops}", save)],
        [Task(seat.machine, "copy", f"would copy the snapshot to {place}", copy)],
    ]


def migrating(seat: Seat, save: list[list[Task]]) -> list[list[Task]]:
    """SQLite to etcd, on the one server: a snapshot, the move while nothing else can start k3s, a proof.

    A run that is cut off leaves the server held; another one continues.
    """
    before: set[str] = set()

    def look() -> bool:
        if seat.state.active:
            before.update(objects(Kubectl(seat.machine)))
        return False

    def hold() -> bool:
        rollback.hold(seat, "migrate")
        service.stop(seat.machine, seat.node.role)
        return True

    def move() -> bool:
        seat.machine.write(layout.PEER, config.peer(None), 0o600)
        seat.machine.change_shell(MIGRATE, "240", timeout=300)
        return True

    def start() -> bool:
        seat.machine.remove(layout.HOLD)
        service.settle(seat.machine, seat.node.role)
        members.gate(seat, seat)
        if gone := sorted(before - objects(Kubectl(seat.machine))):
            raise ClusterError(
                f"after the move to etcd, {len(gone)} objects are missing: {', '.join(gone[:5])}",
                fix="rollback(snapshot) to the one from before the move",
            )
        return True

    words = ("would list the objects", "would keep k3s from starting", "would move the data from SQLite to etcd",
             "would start k3s, prove it, and compare the objects")  # fmt: skip
    look_at, *rest = [
        Task(seat.machine, step, would, work)
        for step, would, work in zip(
            ("look", "hold", "migrate", "start"), words, (look, hold, move, start), strict=True
        )
    ]
    first = [] if seat.state.hold == "migrate" else [[look_at], *save]
    return [*first, *([task] for task in rest)]


def objects(kubectl: Kubectl) -> set[str]:
    """The names of what a lost datastore would lose; without what controllers make anew all the time."""
    answer = kubectl.read("get", OBJECTS, "--all-namespaces", "-o", "name", timeout=120)
    return set(answer.stdout.split())


def restarting(
    seats: list[Seat], host_seat: Seat, step: str, would: str, before: Callable[[Seat], object]
) -> list[list[Task]]:
    """One machine after the other: stop k3s, do something, start it, prove it."""

    def work(seat: Seat) -> bool:
        service.stop(seat.machine, seat.node.role)
        before(seat)
        service.settle(seat.machine, seat.node.role)
        members.gate(seat, host_seat)
        return True

    return [[Task(seat.machine, step, would, partial(work, seat))] for seat in seats]


def certificates(seats: list[Seat], host_seat: Seat) -> list[list[Task]]:
    """New client and server certificates with new keys on every machine; the authorities stay."""

    def rotate(seat: Seat) -> None:
        seat.machine.change([layout.BINARY, "certificate", "rotate"], timeout=120)

    return restarting(seats, host_seat, "certificates", "would stop k3s, make new certificates, start it", rotate)


def token(seats: list[Seat], host_seat: Seat, settings: Settings) -> list[list[Task]]:
    """A new servers' token; agents have one of their own. Snapshots keep the token of their time with them.

    Raises:
        ClusterError: the parameters name the token themselves.
    """
    if settings.cluster.k3s.token:
        raise ClusterError(
            "cluster.k3s.token names the token, and k3s takes a given one only where others can read it",
            fix="take cluster.k3s.token out of the parameters first",
        )
    servers = [seat for seat in seats if seat.server]
    make = Task(
        host_seat.machine,
        "token",
        "would make a new token",
        lambda: bool(host_seat.machine.change_shell(ROTATE_TOKEN)) or True,
    )

    def give(seat: Seat) -> None:
        if seat is not host_seat:
            members.invite(seat, host_seat)

    ordered = [host_seat, *(seat for seat in servers if seat is not host_seat)]
    return [[make], *restarting(ordered, host_seat, "token", "would give it the token and restart k3s", give)]


def encryption(seats: list[Seat], host_seat: Seat) -> list[list[Task]]:
    """A new key for Secrets: all are written anew with it, then the servers are restarted one by one."""
    machine = host_seat.machine

    def rotate() -> bool:
        machine.change([layout.BINARY, "secrets-encrypt", "rotate-keys"], timeout=120)
        return True

    def unfinished() -> str:
        said = machine.run([layout.BINARY, "secrets-encrypt", "status"]).stdout
        return "" if "reencrypt_finished" in said else said.strip().replace("\n", "; ")[:200]

    def finish() -> bool:
        wait(unfinished, "Secrets are not all encrypted anew", 1800.0, pause=2.0)
        return False

    servers = [host_seat, *(seat for seat in seats if seat.server and seat is not host_seat)]
    return [
        [Task(machine, "key", "would make a new key and encrypt all Secrets with it", rotate)],
        [Task(machine, "key", "would wait until all are encrypted with it", finish)],
        *restarting(servers, host_seat, "key", "would restart k3s", lambda _: None),
    ]
