"""A copy of the datastore with all that a restore needs: the data, the tokens, the version that wrote it.

etcd is copied by k3s while it runs. SQLite is copied with the server stopped, which an upgrade stops anyway, so that
the copy is whole without a tool that the machine may lack. A copy that was cut off stays `.partial`, and counts for
nothing. The tokens belong to it: k3s encrypts its own secrets in the datastore with the server's.
"""

from dataclasses import dataclass

from platformlib.clusters.k3s import layout
from platformlib.errors import ClusterError
from platformlib.machines import Machine

KEEP = 3
# $1 etcd or sqlite, $2 the version that wrote the data.
SAVE = f"""set -eu
umask 077
id=$(date -u +%Y%m%dT%H%M%SZ)-$2
new={layout.SNAPSHOTS}/.$id.partial
rm -rf {layout.SNAPSHOTS}/.*.partial; mkdir -p $new
if [ "$1" = etcd ]; then
  {layout.BINARY} etcd-snapshot save --name "platformlib-$id" >/dev/null
  mkdir $new/etcd; mv {layout.SERVER}/db/snapshots/platformlib-$id* $new/etcd/
else
  systemctl stop k3s
  cp -a {layout.SERVER}/db $new/db
fi
cp -a {layout.SERVER}/token $new/token; cp -a {layout.SERVER}/agent-token $new/agent-token
echo "$2" > $new/version
sync; mv $new {layout.SNAPSHOTS}/$id
ls -d {layout.SNAPSHOTS}/*/ | sort | head -n -{KEEP} | xargs -r rm -rf
echo "$id"
"""
LIST = f"""for path in $(ls -d {layout.SNAPSHOTS}/*/ 2>/dev/null | sort); do
  printf '%s %s %s %s\\n' "$(basename $path)" "$(cat $path/version)" \\
    "$([ -d $path/etcd ] && echo etcd || echo sqlite)" "$(du -sk $path | cut -f1)"
done"""


@dataclass(frozen=True, order=True)
class Snapshot:
    """One copy: its id begins with its UTC time; `kib` is its size."""

    id: str
    version: str
    kind: str
    kib: int

    @property
    def path(self) -> str:
        return f"{layout.SNAPSHOTS}/{self.id}"


def save(machine: Machine, kind: str, version: str) -> str:
    """Make one on a server; its id. SQLite's server is stopped afterwards: the caller starts it."""
    return machine.shell(SAVE, kind, version, timeout=600).split()[-1]


def snapshots(machine: Machine) -> list[Snapshot]:
    """Those that are whole on a server, the oldest first."""
    rows = (line.split() for line in machine.shell(LIST).splitlines())
    return [Snapshot(name, version, kind, int(kib)) for name, version, kind, kib in rows]


def newest(machines: list[Machine]) -> tuple[Machine, Snapshot]:
    """The last snapshot on any server.

    Raises:
        ClusterError: there is none.
    """
    found = [(snapshot, machine) for machine in machines for snapshot in snapshots(machine)]
    if not found:
        names = ", ".join(machine.name for machine in machines)
        raise ClusterError(f"no snapshot on {names}", fix="only an upgrade that was begun can be rolled back")
    snapshot, machine = max(found, key=lambda pair: pair[0])
    return machine, snapshot
