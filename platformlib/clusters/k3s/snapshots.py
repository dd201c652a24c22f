"""Copies of the datastore: made, listed, kept on a second machine.

A snapshot has all that a restore needs: the data, the tokens (k3s encrypts its own secrets in the datastore with the
server's), the version that wrote it, and checksums. etcd is copied by k3s while it runs; SQLite while the server is
stopped, so that the copy is whole without a tool that the machine may lack. A copy that was cut off stays `.partial`.
k3s's own scheduled snapshots of etcd are listed as well, here and in S3, and can be restored like the others.
"""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from platformlib.clusters.k3s import layout, service
from platformlib.errors import ClusterError
from platformlib.machines import Machine

HERE = "this host"
# $1 etcd or sqlite, $2 the version that wrote the data, $3 how many stay. Prints the id. Nothing is removed before the
# new one is whole. The name that k3s is given is short and plain, since k3s makes object names of it.
SAVE = f"""set -eu
umask 077
tag=$(od -An -N3 -tx1 /dev/urandom | tr -d ' \\n')
id=$(date -u +%Y%m%dT%H%M%SZ)-$2-$tag
new={layout.SNAPSHOTS}/.$id.partial
rm -rf {layout.SNAPSHOTS}/.*.partial; mkdir -p $new
if [ "$1" = etcd ]; then
  {layout.BINARY} etcd-snapshot save --name "platformlib-$tag" --etcd-snapshot-compress=false --etcd-s3=false >/dev/null
  mkdir $new/etcd; mv {layout.SCHEDULED}/platformlib-$tag* $new/etcd/
else
  mkdir $new/db; cp -a {layout.DATABASE}/state.db* $new/db/
fi
cp -a {layout.SERVER}/token $new/token; cp -a {layout.SERVER}/agent-token $new/agent-token
echo "$2" > $new/version
cd $new; find . -type f ! -name sums ! -name .sums -exec sha256sum {{}} + > .sums; mv .sums sums
sync; mv $new {layout.SNAPSHOTS}/$id; sync
cd {layout.SNAPSHOTS}; ls -d */ | sort | head -n "-$3" | xargs -r rm -rf
echo "$id"
"""
# One line a snapshot: origin, id, kind, version or -, seconds since 1970, KiB, path.
LIST = f"""cd {layout.SNAPSHOTS} 2>/dev/null && for name in $(ls -d */ 2>/dev/null); do
  name=${{name%/}}; kind=sqlite; [ -d $name/etcd ] && kind=etcd
  echo "platformlib $name $kind $(cat $name/version) $(stat -c %Y $name/version) $(du -sk $name | cut -f1) $PWD/$name"
done
cd {layout.SCHEDULED} 2>/dev/null && for name in $(ls -p 2>/dev/null | grep -v /); do
  case $name in .*|*.tmp|*.part) continue ;; esac
  echo "k3s $name etcd - $(stat -c %Y $name) $(( $(stat -c %s $name) / 1024 )) $PWD/$name"
done
true"""
# $1 a snapshot's id: one file of it, and back. The arrived copy is checked before it takes its name.
PACK = f"""set -eu
umask 077; cd {layout.SNAPSHOTS}
tar -cf {layout.OWN}/.transfer-$1.tar "$1"; echo {layout.OWN}/.transfer-$1.tar"""
UNPACK = f"""set -eu
umask 077; mkdir -p {layout.SNAPSHOTS}; cd {layout.SNAPSHOTS}
[ -e "$1" ] && {{ rm -f "$2"; exit 0; }}
rm -rf ".$1.partial"; mkdir ".$1.partial"; tar -C ".$1.partial" -xf "$2"
(cd ".$1.partial/$1" && sha256sum --quiet -c sums)
sync; mv ".$1.partial/$1" "$1"; rmdir ".$1.partial"; rm -f "$2"; echo changed"""
S3LIST = (layout.BINARY, "etcd-snapshot", "ls", "--output=json")


@dataclass(frozen=True, order=True)
class Snapshot:
    """One copy.

    Attributes:
        created: seconds since 1970.
        origin: `platformlib`, `k3s` (on its schedule, or on demand), or `s3`.
        kind: `etcd` or `sqlite`.
        version: of k3s, that wrote it; empty where nothing tells.
        node: where it is: a server, `s3`, or this host.
    """

    created: int
    id: str
    origin: str
    kind: str
    version: str
    kib: int
    path: str
    node: str


def save(machine: Machine, kind: str, version: str, keep: int) -> str:
    """Make one on a server; its id. SQLite's server is stopped for it, and the caller starts it again."""
    if kind == "sqlite":
        service.stop(machine, "control-plane")
    return machine.change_shell(SAVE, kind, version, str(keep), timeout=600).split()[-1]


def on_server(machine: Machine) -> list[Snapshot]:
    """Those that are whole on a server."""
    rows = (line.split() for line in machine.shell(LIST).splitlines())
    return sorted(
        Snapshot(int(created), name, origin, kind, "" if version == "-" else version, int(kib), path, machine.name)
        for origin, name, kind, version, created, kib, path in rows
    )


def in_s3(machine: Machine) -> list[Snapshot]:
    """Those that k3s has copied to its bucket, as k3s lists them."""
    answer = machine.run(S3LIST, timeout=60, check=False)
    items = json.loads(answer.stdout or "{}").get("items", ()) if answer.ok else ()
    found = []
    for item in items:
        spec, status = item.get("spec", {}), item.get("status", {})
        if str(spec.get("location", "")).startswith("s3://"):
            created = _seconds(status.get("creationTime", ""))
            kib = int(str(status.get("size", "0")).rstrip("KMGi") or 0) // 1024
            found.append(Snapshot(created, spec["snapshotName"], "s3", "etcd", "", kib, spec["snapshotName"], "s3"))
    return sorted(found)


def _seconds(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp()) if text else 0


def here(folder: Path) -> list[Snapshot]:
    """The copies on this host, each one file, named `<id>.tar`."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        stamp, version, *_ = [*path.stem.split("-"), ""]
        kind = path.with_suffix(".kind").read_text("utf-8").strip() if path.with_suffix(".kind").exists() else "sqlite"
        found.append(
            Snapshot(_stamp(stamp), path.stem, "platformlib", kind, version, path.stat().st_size >> 10, str(path), HERE)
        )
    return found


def _stamp(text: str) -> int:
    from datetime import UTC, datetime

    return int(datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())


def copy(snapshot: Snapshot, source: Machine, target: Machine | None, folder: Path, keep: int) -> str:
    """Bring a snapshot to a second place, another server or this host; the name of that place.

    It has the servers' tokens, so it never goes to an agent. On this host it is readable for its owner alone.

    Args:
        target: another server; None: this host.
        folder: where this host keeps them.
        keep: how many stay on this host.
    """
    packed = source.change_shell(PACK, snapshot.id, timeout=300).strip()
    try:
        if target is None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            source.download(packed, folder / f"{snapshot.id}.tar")
            (folder / f"{snapshot.id}.kind").write_text(snapshot.kind, "utf-8")
            for old in sorted(folder.glob("*.tar"))[:-keep]:
                old.unlink()
                old.with_suffix(".kind").unlink(missing_ok=True)
            return HERE
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "snapshot.tar"
            source.download(packed, file)
            bring(file, snapshot.id, target)
    finally:
        source.remove(packed)
    return target.name


def bring(file: Path, name: str, target: Machine) -> bool:
    """Put a copy that is one file here onto a server; True when it was not there."""
    arrived = f"{layout.OWN}/.arrived-{name}.tar"
    target.upload(file, arrived, 0o600)
    return target.change_shell(UNPACK, name, arrived, timeout=300).strip() == "changed"


def choose(found: Iterable[Snapshot], name: str) -> Snapshot:
    """The snapshot of an id, on a server before elsewhere.

    Raises:
        ClusterError: no id, or an unknown one; lists all with their age and size.
    """
    known = sorted(found, reverse=True)
    if picked := [it for it in known if it.id == name]:
        return min(picked, key=lambda it: (it.node in (HERE, "s3"), it.node))
    if not known:
        raise ClusterError("there is no snapshot", fix="snapshot() makes one; an upgrade begins with one")
    lines = "\n  ".join(dict.fromkeys(f"{it.id}  {age(it)} old, {it.kib} KiB, {it.kind} {it.version}" for it in known))
    what = f"no snapshot {name}" if name else "which snapshot? it is never chosen for you"
    raise ClusterError(f"{what}\n  {lines}", fix="rollback('one of these')")


def age(snapshot: Snapshot) -> str:
    """`3 d`, `5 h` or `12 min`, by this host's clock."""
    import time

    seconds = max(int(time.time()) - snapshot.created, 0)
    for size, unit in ((86400, "d"), (3600, "h")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds // 60} min"
