"""Moving to another version: which version may follow which, and the way there, node by node.

A snapshot, then servers one by one, then agents with drain and uncordon. A node is touched only while all others are
Ready. What is done is read from the machines, so an upgrade that was cut off continues where it stopped; its snapshot
is made once, before the first server is switched.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

from platformlib.clusters.k3s import host, layout, members, service
from platformlib.clusters.k3s.artifacts import Release
from platformlib.clusters.k3s.kubectl import Kubectl, wait
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.tasks import UNCHANGED, Task
from platformlib.errors import ClusterError

Version = tuple[int, int, int, int]
KUBELET_LAG = 3
GATE = 300.0
# The first releases of a minor version with etcd 3.6, and with etcd 3.5.26: only from there may a cluster go to 3.6.
# Release notes of v1.33.7+k3s3 and v1.32.11+k3s3, "K3s v1.34 Upgrade Warning"; issues 13485, 13493, 13494, 14183.
ETCD_36 = {33: (1, 33, 13, 1)}
ETCD_36_FROM = 34
ETCD_3526 = {32: (1, 32, 11, 3), 33: (1, 33, 7, 3)}


def parse(text: str) -> Version:
    """`v1.35.4+k3s1` as (1, 35, 4, 1).

    Raises:
        ClusterError: it is no release of k3s.
    """
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)\+k3s(\d+)", text)
    if not match:
        raise ClusterError(f"{text or 'no version'} is no release of k3s", fix="such as v1.35.4+k3s1")
    major, minor, patch, release = (int(group) for group in match.groups())
    return major, minor, patch, release


def _shown(version: Version) -> str:
    return f"v{version[0]}.{version[1]}.{version[2]}+k3s{version[3]}"


def refuse(servers: Mapping[str, str], agents: Mapping[str, str], wanted: str, *, etcd: bool = False) -> None:
    """Servers move up by one minor version at a time, never down; agents may lag behind by three.

    Args:
        servers: versions by node name; `agents` likewise.
        etcd: the datastore is the embedded etcd, which has rules of its own.

    Raises:
        ClusterError: the step is not allowed; names the node and the version to go to first.
    """
    then = parse(wanted)
    for name, version in {**servers, **agents}.items():
        if then < parse(version):
            fix = "rollback(snapshot) goes back to the snapshot from before an upgrade, with its binary"
            raise ClusterError(f"{wanted} is older than {version} on {name}", fix=fix)
    for name, version in servers.items():
        now = parse(version)
        if then[:2] > (now[0], now[1] + 1):
            fix = f"upgrade to the newest v{now[0]}.{now[1] + 1} first"
            raise ClusterError(f"{version} on {name} to {wanted} skips a minor version", fix=fix)
        if etcd and _has_etcd_36(then) and not _has_etcd_36(now) and now < _etcd_3526(now):
            first = _shown(_etcd_3526(now))
            raise ClusterError(
                f"{version} on {name} has an etcd older than 3.5.26, from which etcd 3.6 (in {wanted}) may bring back "
                "members that were removed long ago, and the cluster may lose its quorum",
                fix=f"upgrade to {first} first, or another release of that minor version with etcd 3.5.26 or later",
            )
    for name, version in agents.items():
        if then[1] - parse(version)[1] > KUBELET_LAG:
            fix = f"upgrade {name} to v{then[0]}.{then[1] - KUBELET_LAG} or later first"
            raise ClusterError(
                f"{version} on {name} would lag behind {wanted} by more than three minor versions", fix=fix
            )


def _has_etcd_36(version: Version) -> bool:
    return version[1] >= ETCD_36_FROM or version >= ETCD_36.get(version[1], (1, ETCD_36_FROM, 0, 0))


def _etcd_3526(version: Version) -> Version:
    """The first release of its minor version with etcd 3.5.26; of older ones, none is known: that of v1.32."""
    return ETCD_3526.get(version[1], ETCD_3526[32])


def phases(
    seats: list[Seat], version: str, files: Mapping[str, Release], save: list[list[Task]], *, force: bool
) -> list[list[Task]]:
    """All machines, servers first, to `version`.

    Args:
        files: the release's, for each machine.
        save: the phases that make the snapshot; used only while no server has the version yet.
        force: end pods as well that nothing starts again.
    """
    servers = [seat for seat in seats if seat.server]
    first = servers[0]
    found = [
        [_started(seat) for seat in seats if not seat.state.active],
        [_healthy(seats, first, "before the upgrade")],
    ]
    found.append([_sent(seat, files[seat.node.name]) for seat in seats])
    if all(seat.state.version != version for seat in servers):
        found += save
    for seat in seats:
        found.append([_moved(seat, servers[0], version, force=force)])
        found.append([_healthy(seats, first, f"after {seat.node.name}")])
    return found


def _started(seat: Seat) -> Task:
    work = partial(service.settle, seat.machine, seat.node.role)
    return Task(seat.machine, "start", "would start k3s, which is stopped", work)


def _sent(seat: Seat, release: Release) -> Task:
    def would() -> str:
        there = seat.machine.run(["test", "-x", layout.program(release.version)], check=False).ok
        return UNCHANGED if there else f"would put k3s {release.version} beside the old one"

    def work() -> bool:
        return any([host.program(seat.machine, release), host.images(seat.machine, release)])

    return Task(seat.machine, "binary", would, work)


def _healthy(seats: list[Seat], first: Seat, when: str) -> Task:
    def work() -> bool:
        wait(lambda: _ill(seats), f"{when}, the cluster is not healthy", GATE)
        return False

    return Task(first.machine, f"health {when}", "would wait until all nodes are Ready", work)


def _ill(seats: list[Seat]) -> str:
    for seat in seats:
        if seat.server and not Kubectl(seat.machine).healthy():
            return f"the API server of {seat.node.name} is not ready"
    known = Kubectl(seats[0].machine).members()
    names = [seat.node.name for seat in seats]
    if missing := [name for name in names if name not in known]:
        raise ClusterError(f"not in the cluster: {', '.join(missing)}", fix="run install and join first")
    return "; ".join(f"{name}: {known[name].cause}" for name in names if not known[name].ready)


def _moved(seat: Seat, host_seat: Seat, version: str, *, force: bool) -> Task:
    if seat.state.version == version:
        would: str | Callable[[], str] = "would see that it is Ready in that version"
    elif seat.server:
        would = f"would restart k3s with {version} instead of {seat.state.version}; its pods go on"
    else:
        would = partial(_drained, seat, host_seat, version)
    work = partial(_server, seat, version) if seat.server else partial(_agent, seat, host_seat, version, force=force)
    return Task(seat.machine, "upgrade", would, work)


def _drained(seat: Seat, host_seat: Seat, version: str) -> str:
    pods = Kubectl(host_seat.machine).pods(seat.node.name)
    lost = "".join(f"; {pod.namespace}/{pod.name} loses {pod.lost}" for pod in pods if pod.lost)
    return f"would drain {len(pods)} pods, restart k3s with {version} instead of {seat.state.version}, uncordon{lost}"


def _server(seat: Seat, version: str) -> bool:
    """k3s restarts below its pods: they go on, so a server is not drained."""
    changed = host.switch(seat.machine, version)
    restarted = service.settle(seat.machine, seat.node.role)
    members.gate(seat, seat, version, started=restarted)
    return changed or restarted


def _agent(seat: Seat, host_seat: Seat, version: str, *, force: bool) -> bool:
    """Drain, switch, uncordon. A node that someone else had cordoned stays so: a mark on it says that it was us."""
    kubectl, name = Kubectl(host_seat.machine), seat.node.name
    moved = seat.state.version != version
    if moved:
        if not kubectl.members()[name].cordoned:
            seat.machine.write(layout.DRAINED, version)
        kubectl.drain(name, force=force)
        host.switch(seat.machine, version)
    restarted = service.settle(seat.machine, seat.node.role)
    members.gate(seat, host_seat, version, started=restarted or moved)
    ours = seat.machine.read(layout.DRAINED) is not None
    if ours:
        kubectl.uncordon(name)
        seat.machine.remove(layout.DRAINED)
    return moved or restarted or ours
