"""Back to a snapshot, with the binary that wrote it. What was written since is lost: that is its meaning.

Between "stopped" and "restored" a server has old data, no data, or half of it; a k3s that starts then founds an empty
cluster with the same authority, and agents drop their workloads. So every machine is held first: a file that systemd's
units look for, and units that are disabled. A reboot, a crash or another run starts nothing until the data is there.
The present data is set aside, under a name of its own each time, and removed only after the restore was proven.
"""

from collections.abc import Callable
from functools import partial

from platformlib.clusters.k3s import config, host, layout, members, service
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.snapshots import Snapshot, age
from platformlib.clusters.k3s.tasks import Task
from platformlib.settings import Settings

KEEP = 2
# $1 the unit, $2 the reason.
HOLD = f"""set -eu
mkdir -p {layout.HOLD.rsplit("/", 1)[0]}
printf '%s\\n' "$2" > {layout.HOLD}.new; sync {layout.HOLD}.new; mv {layout.HOLD}.new {layout.HOLD}; sync
systemctl disable --quiet "$1" 2>/dev/null || true
"""
# $tokens is a folder with tokens, or nothing. A snapshot is read with the token of its time.
TOKENS = f"""
for name in token agent-token; do
  if [ -z "$tokens" ] || [ ! -s "$tokens/$name" ]; then continue; fi
  old=$(sed 's/^K10.*::[^:]*://' "$tokens/$name")
  now=$(sed 's/^K10.*::[^:]*://' {layout.FOLDER}/$name 2>/dev/null || true)
  [ "$old" = "$now" ] && continue
  if [ -n "$now" ]; then cp -a {layout.FOLDER}/$name "$aside/$name"; fi
  mkdir -p {layout.FOLDER}; printf '%s\\n' "$old" > {layout.FOLDER}/$name.new
  mv {layout.FOLDER}/$name.new {layout.FOLDER}/$name; rm -f {layout.SERVER}/$name
done
"""
# The name has the time, so that no second run takes the place of the first one's data.
NAMED = f"""set -eu
umask 077
aside={layout.ASIDE}/$(date -u +%Y%m%dT%H%M%SZ)-$(od -An -N2 -tx1 /dev/urandom | tr -d ' \\n'); mkdir -p $aside
"""
# $1 the snapshot's folder. The copy is whole on the disk before anything is moved; state.db comes last.
SQLITE = f"""{NAMED}
tokens=$1
db={layout.DATABASE}; new=$db/.restore
(cd "$1" && sha256sum --quiet -c sums)
rm -rf $new; mkdir -p $new; cp -a "$1"/db/state.db* $new/; sync
for file in $db/state.db $db/state.db-wal $db/state.db-shm $db/etcd; do
  if [ -e $file ]; then mv $file $aside/; fi
done
for file in state.db-wal state.db-shm state.db; do
  if [ -e $new/$file ]; then mv $new/$file $db/; fi
done
rm -rf $new {layout.PEER}
{TOKENS}
sync
"""
# $1 the snapshot's file, or its name in S3; $2 the folder with its tokens, or nothing; $3 false: the file is here.
# k3s refuses a second reset in a row while its flag is there, and any while its configuration says whom to join; so it
# is given a copy of its configuration without the peer. k3s moves the present data to etcd-old-… beside it.
ETCD = f"""{NAMED}
file=$1 tokens=$2 s3=$3
if [ -d "$file/etcd" ]; then (cd "$file" && sha256sum --quiet -c sums); file=$(ls "$file"/etcd/*); fi
{TOKENS}
rm -rf {layout.RESET} {layout.RESET}.d; mkdir -p {layout.RESET}.d; cp {layout.CONFIG} {layout.RESET}
for part in {layout.DROPINS}/*.yaml {layout.DROPINS}/*.yml; do
  if [ -f "$part" ] && [ "$part" != {layout.PEER} ]; then cp "$part" {layout.RESET}.d/; fi
done
rm -f {layout.DATABASE}/reset-flag
environment={layout.environment_file("control-plane")}
set -a; if [ -f $environment ]; then . $environment; fi; set +a
{layout.BINARY} server --config {layout.RESET} --etcd-s3=$s3 --cluster-reset --cluster-reset-restore-path="$file" \\
  > {layout.OWN}/restore.log 2>&1 || {{ tail -n 20 {layout.OWN}/restore.log >&2; exit 1; }}
if [ ! -d {layout.DATABASE}/etcd/member/wal ]; then echo "k3s restored nothing" >&2; exit 1; fi
rm -rf {layout.RESET} {layout.RESET}.d; rmdir $aside 2>/dev/null || true; sync
"""
# The data of a server that joins the restored one; its scheduled snapshots stay where they are.
AWAY = f"""{NAMED}
if [ -e {layout.DATABASE}/etcd ]; then mv {layout.DATABASE}/etcd $aside/; else rmdir $aside; fi
"""
# $1 how many of each kind stay.
TIDY = f"""
for list in "{layout.ASIDE}/*" "{layout.DATABASE}/etcd-old-*"; do
  ls -d $list 2>/dev/null | sort | head -n "-$1" | xargs -r rm -rf
done
true
"""


def phases(
    seats: list[Seat], host_seat: Seat, chosen: Snapshot, version: str, settings: Settings
) -> list[list[Task]]:  # fmt: skip
    """All machines to `version`, the datastore to the snapshot's content.

    Args:
        host_seat: the server that is restored; it has the snapshot, or reads it from S3.
        version: the one that wrote the snapshot; where that is not known, the present one.
    """
    servers = [seat for seat in seats if seat.server and seat is not host_seat]
    agents = [seat for seat in seats if not seat.server]
    everyone = [host_seat, *servers, *agents]
    what = f"{chosen.id} ({age(chosen)} old, {chosen.kib} KiB); what was written since is lost"
    task = partial(_task, chosen=chosen)
    found: list[list[Task]] = []
    # A run that was cut off after the restore continues behind it: another one would lose what was written since.
    if host_seat.state.restored != chosen.id:
        text = "would keep k3s from starting until the data is restored"
        found += [
            [task("hold", text, seat, work=_hold) for seat in group] for group in ([host_seat], [*servers, *agents])
        ]
        text = "would stop k3s; pods go on"
        found += [[task("stop", text, seat, work=_stop) for seat in group] for group in (agents, [host_seat, *servers])]
        switch = partial(_switch, version=version)
        found.append([task("binary", f"would make {version} the one that starts", it, work=switch) for it in everyone])
        found.append([task("restore", f"would restore {what}", host_seat, work=partial(_restore, settings=settings))])
    lift = partial(_start, host_seat=host_seat, version=version, settings=settings)
    found.append([task("start", "would start the restored server and prove it", host_seat, work=lift)])
    for seat in servers:
        text = "would set its data aside, join the restored server and prove it"
        found.append([task("rejoin", text, seat, work=partial(lift, away=True))])
    found.append([task("start", "would start k3s and prove it", seat, work=lift) for seat in agents])
    text = f"would keep the last {KEEP} of what was set aside"
    found += [[task("tidy", text, seat, work=_tidy)] for seat in (*servers, host_seat)]
    return [phase for phase in found if phase]


def first(seats: list[Seat], chosen: Snapshot) -> Seat:
    """The server that is restored first: the one that was begun with, else the one that has the snapshot."""
    servers = [seat for seat in seats if seat.server]
    begun = [seat for seat in servers if seat.state.restored == chosen.id]
    return next(iter(begun), next((seat for seat in servers if seat.node.name == chosen.node), servers[0]))


def founding(seat: Seat, chosen: Snapshot, version: str, settings: Settings) -> list[list[Task]]:
    """The first server of a cluster that is made from a snapshot, on a machine that was prepared and has no data."""

    def held() -> bool:
        hold(seat, f"restore {chosen.id}")
        return True

    def laid() -> bool:
        restore(seat, chosen)
        members.record(seat, settings)
        return True

    def started() -> bool:
        members.tokens(seat.machine, settings)
        seat.machine.remove(layout.HOLD)
        service.settle(seat.machine, seat.node.role)
        members.gate(seat, seat, version)
        return True

    would = (
        ("hold", "would keep k3s from starting until the data is there", held),
        ("restore", f"would restore {chosen.id} ({age(chosen)} old, {chosen.kib} KiB)", laid),
        ("start", "would start the restored server and prove it", started),
    )
    return [[Task(seat.machine, *each)] for each in would]


def _task(step: str, would: str, seat: Seat, *, chosen: Snapshot, work: Callable[[Seat, Snapshot], bool]) -> Task:
    return Task(seat.machine, step, would, partial(work, seat, chosen))


def hold(seat: Seat, reason: str) -> None:
    """Keep k3s from starting here: not at boot, not after a crash, not by hand."""
    seat.machine.change_shell(HOLD, layout.unit(seat.node.role), reason)


def _hold(seat: Seat, chosen: Snapshot) -> bool:
    hold(seat, f"rollback {chosen.id}")
    return True


def _stop(seat: Seat, _: Snapshot) -> bool:
    service.stop(seat.machine, seat.node.role)
    return True


def _switch(seat: Seat, _: Snapshot, *, version: str) -> bool:
    return host.switch(seat.machine, version)


def _restore(seat: Seat, chosen: Snapshot, *, settings: Settings) -> bool:
    restore(seat, chosen)
    members.record(seat, settings)
    seat.machine.write(layout.RESTORED, chosen.id)
    return True


def restore(seat: Seat, chosen: Snapshot) -> None:
    """Replace the datastore of a server, which does not run, by the snapshot's."""
    if chosen.kind == "sqlite":
        seat.machine.change_shell(SQLITE, chosen.path, timeout=600)
        return
    tokens = chosen.path if chosen.origin == "platformlib" else ""
    s3 = "true" if chosen.origin == "s3" else "false"
    seat.machine.change_shell(ETCD, chosen.path, tokens, s3, timeout=900)


def _start(
    seat: Seat, _: Snapshot, *, host_seat: Seat, version: str, settings: Settings, away: bool = False
) -> bool:  # fmt: skip
    """Release one machine. Only a machine that is still held has data to set aside: others were done before."""
    held = seat.machine.read(layout.HOLD) is not None
    if away and held:
        seat.machine.write(layout.PEER, config.peer(config.url(settings, host_seat.node)), 0o600)
        seat.machine.change_shell(AWAY)
    if seat is not host_seat:
        members.invite(seat, host_seat)
    seat.machine.remove(layout.HOLD)
    service.settle(seat.machine, seat.node.role)
    members.gate(seat, host_seat, version)
    members.record(seat, settings)
    return True


def _tidy(seat: Seat, _: Snapshot) -> bool:
    seat.machine.change_shell(TIDY, str(KEEP), timeout=120)
    seat.machine.remove(layout.RESTORED)
    return False
