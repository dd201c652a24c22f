"""Founding the cluster and joining it.

A server with data continues with it, one without joins the others, and a cluster is founded only when no server has
data. So a server that was rebuilt, the first one too, never founds a second cluster.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from platformlib.clusters.k3s import config, layout, service
from platformlib.clusters.k3s.kubectl import GATE, Kubectl, wait
from platformlib.clusters.k3s.state import State
from platformlib.errors import ClusterError, NodeError
from platformlib.machines import Machine
from platformlib.settings import Node, Settings
from platformlib.settings.references import resolve

# A token that was lost comes back from k3s's own copy; one is made only where there is none. It never leaves here
# but to a machine that joins, by standard input, and to no command line, log or message.
TOKENS = f"""set -eu
umask 077; mkdir -p {layout.FOLDER}
for name in token agent-token; do
  own={layout.FOLDER}/$name
  if [ -s $own ]; then chmod 600 $own; continue; fi
  if [ -s {layout.SERVER}/$name ]; then sed 's/^K10.*::[^:]*://' {layout.SERVER}/$name > $own.new
  else head -c 32 /dev/urandom | sha256sum | cut -c1-64 > $own.new; fi
  mv $own.new $own
done
"""
SERVER_TOKEN = f"{layout.SERVER}/token"
AGENTS_TOKEN = f"{layout.SERVER}/agent-token"
TLS = f"{layout.SERVER}/tls/etcd"
ETCDCTL = (
    f"on a server: etcdctl --endpoints=https://127.0.0.1:2379 --cacert={TLS}/server-ca.crt "
    f"--cert={TLS}/server-client.crt --key={TLS}/server-client.key member list; then member remove with its id"
)
NOTHING = '{"labels": [], "taints": []}'


@dataclass(frozen=True)
class Seat:
    """One machine with its place in the cluster and what was found on it."""

    machine: Machine
    node: Node
    state: State

    @property
    def server(self) -> bool:
        return self.node.role == "control-plane"

    @property
    def seated(self) -> bool:
        """Whether it has what makes it continue by itself: a server its data, an agent its certificates."""
        return self.state.datastore if self.server else self.state.agent


def holder(seats: Iterable[Seat], settings: Settings) -> Seat | None:
    """The server whose cluster it is: the first one with data, one with etcd before one with SQLite."""
    held = [seat for seat in seats if seat.server and seat.state.datastore]
    if config.datastore(settings) == "etcd":
        held.sort(key=lambda seat: not seat.state.etcd)
    return held[0] if held else None


def speaker(seats: Iterable[Seat]) -> Seat | None:
    """A server with data whose API server answers; the first one that does."""
    held = (seat for seat in seats if seat.server and seat.state.datastore)
    return next((seat for seat in held if Kubectl(seat.machine).healthy()), None)


def found(seat: Seat, settings: Settings) -> bool:
    """Start the first server without a cluster to join; True when it was (re)started."""
    tokens(seat.machine, settings)
    if config.datastore(settings) == "sqlite":
        seat.machine.remove(layout.PEER)  # of a first install that failed; k3s would move SQLite's data to etcd
    elif not seat.state.etcd:
        seat.machine.write(layout.PEER, config.peer(None), 0o600)
    changed = service.settle(seat.machine, seat.node.role)
    record(seat, settings)
    return changed


def tokens(machine: Machine, settings: Settings) -> None:
    """The two tokens of a server: what it has, else those of the parameters, else new ones.

    Raises:
        ClusterError: the parameters name another token than the cluster has.
    """
    k3s = settings.cluster.k3s
    for reference, path, name in (
        (k3s.token, layout.TOKEN, "token"),
        (k3s.agent_token, layout.AGENT_TOKEN, "agent_token"),
    ):
        if reference is None:
            continue
        wanted, there = resolve(reference, f"cluster.k3s.{name}"), machine.read(path)
        if there and there.decode().strip() != wanted:
            raise ClusterError(
                f"{machine.name}: cluster.k3s.{name} is another {name} than the cluster has",
                fix=f"take cluster.k3s.{name} out of the parameters: the cluster keeps its own",
            )
        machine.write(path, wanted + "\n", 0o600)
    machine.change_shell(TOKENS)


def join(seat: Seat, settings: Settings, host: Seat) -> bool:
    """Bring a machine into the cluster of `host`, or continue with it; True when it was (re)started."""
    kubectl = Kubectl(host.machine)
    if not seat.seated:
        _forget(seat, kubectl)
        invite(seat, host)
        if seat.server:
            seat.machine.write(layout.PEER, config.peer(config.url(settings, host.node)), 0o600)
    elif seat.server:
        seat.machine.change_shell(TOKENS)
    changed = service.settle(seat.machine, seat.node.role)
    record(seat, settings)
    return changed


def gate(seat: Seat, host: Seat, version: str = "", *, started: bool = True) -> None:
    """Wait until the node is Ready; after a start also until it has proven that it works. Raises ClusterError."""
    kubectl = Kubectl(seat.machine if seat.server else host.machine)
    if started:
        service.prove(seat.machine, seat.node.role, kubectl, version)
    else:
        service.ready(kubectl, seat.node.name, version)


def record(seat: Seat, settings: Settings) -> None:
    """From now on a lost datastore means joining the others: a rebuilt founder must not found again."""
    others = [node for node in config.servers(settings) if node.name != seat.node.name]
    if seat.server and others and config.datastore(settings) == "etcd":
        seat.machine.write(layout.PEER, config.peer(config.url(settings, others[0])), 0o600)


def _forget(seat: Seat, kubectl: Kubectl) -> None:
    """A machine that comes back without its data is refused under its name until its old self is deleted."""
    name = seat.node.name
    if (seat.server or not seat.state.password) and name in kubectl.members():
        kubectl.delete(name)
    if seat.server:
        left_etcd(kubectl, name)


def left_etcd(kubectl: Kubectl, name: str, *, deadline: float = GATE / 3) -> None:
    """Until etcd has no member of a node that was deleted.

    Raises:
        ClusterError: a member is left that no node stands for; names it.
    """
    wait(lambda: _ghosts(kubectl, name), f"{name} is still a member of etcd", deadline)


def _ghosts(kubectl: Kubectl, name: str) -> str:
    left = [member for member in kubectl.etcd() if member.node == name]
    shown = ", ".join(f"{member.name} at {' '.join(member.peers)}" for member in left)
    return f"{shown}; {ETCDCTL}" if left else ""


def invite(seat: Seat, host: Seat) -> bool:
    """Give a machine the token that its role needs, and no other; True when it had another."""
    # The agents' token has to be alike on all servers, to the letter.
    servers = {layout.TOKEN: SERVER_TOKEN, layout.AGENT_TOKEN: layout.AGENT_TOKEN}
    wanted = servers if seat.server else {layout.TOKEN: AGENTS_TOKEN}
    changed = False
    for target, source in wanted.items():
        content = host.machine.read(source)
        if not content:
            raise NodeError(host.machine.name, f"no token at {source}", fix="is k3s running there? run install first")
        changed = seat.machine.write(target, content, 0o600) or changed
    return changed


def admin_config(host: Machine) -> str:
    """The administrator's kubeconfig, as k3s wrote it."""
    content = host.read(layout.KUBECONFIG)
    if content is None:
        raise ClusterError(f"{host.name} has no cluster yet", fix="install it first")
    return content.decode()


def label(machine: Machine, node: Node, kubectl: Kubectl) -> bool:
    """Make the node's labels and taints those of the settings; True when any was changed.

    k3s gives them at registration only, so a change goes through the API. Only what was set from here before is ever
    removed: the list of it is kept on the machine, and written after the work, so that a run that is cut off repeats.
    """
    kept = machine.read(layout.LABELLED)
    if not (kept or node.labels or node.taints):
        return False
    before = json.loads(kept or NOTHING)
    member = kubectl.members()[node.name]
    taints = {taint if "=" in taint else taint.replace(":", "=:") for taint in node.taints}
    added = [f"{key}={value}" for key, value in sorted(node.labels.items()) if member.labels.get(key) != value]
    gone = [f"{key}-" for key in before["labels"] if key not in node.labels and key in member.labels]
    tainted = sorted(taints - member.taints)
    lifted = [f"{taint.replace('=:', ':')}-" for taint in before["taints"] if taint in member.taints - taints]
    if added or gone:
        kubectl.write("label", "node", node.name, "--overwrite", *added, *gone)
    if tainted or lifted:
        kubectl.write("taint", "node", node.name, "--overwrite", *tainted, *lifted)
    machine.write(layout.LABELLED, json.dumps({"labels": sorted(node.labels), "taints": sorted(taints)}))
    return bool(added or gone or tainted or lifted)
