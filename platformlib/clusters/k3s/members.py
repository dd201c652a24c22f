"""Founding the cluster and joining it: who has data goes on with it, who has none joins who has, and only when nobody
has any is a cluster founded. So a server that was rebuilt, the first one too, never founds a second one.
"""

from dataclasses import dataclass

from platformlib.clusters.k3s import config, layout, service
from platformlib.clusters.k3s.kubectl import Kubectl, wait_ready
from platformlib.clusters.k3s.state import State
from platformlib.errors import ClusterError, NodeError
from platformlib.machines import Machine
from platformlib.settings import Node, Settings

# A token that was lost comes back from k3s's own copy; one is made only where there is none. It never leaves here
# but to a machine that joins, by standard input, and to no command line, log or message.
TOKENS = f"""set -eu
umask 077; mkdir -p {layout.CONFIG.rsplit("/", 1)[0]}
for name in token agent-token; do
  own=/etc/rancher/k3s/$name
  if [ -s $own ]; then chmod 600 $own; continue; fi
  if [ -s {layout.SERVER}/$name ]; then sed 's/^K10.*::[^:]*://' {layout.SERVER}/$name > $own.new
  else head -c 32 /dev/urandom | sha256sum | cut -c1-64 > $own.new; fi
  mv $own.new $own
done
"""
SERVER_TOKEN = f"{layout.SERVER}/token"
AGENTS_TOKEN = f"{layout.SERVER}/agent-token"


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
        """Whether it has what makes it go on by itself: a server its data, an agent its certificates."""
        return self.state.datastore if self.server else self.state.agent


def holder(seats: list[Seat], settings: Settings) -> Seat | None:
    """The server whose cluster it is: the first one with data, one with etcd before one with SQLite."""
    held = [seat for seat in seats if seat.server and seat.state.datastore]
    if config.datastore(settings) == "etcd":
        held.sort(key=lambda seat: not seat.state.etcd)
    return held[0] if held else None


def found(seat: Seat, settings: Settings) -> bool:
    """Start the first server without a cluster to join; True when it was (re)started."""
    seat.machine.shell(TOKENS)
    if config.datastore(settings) == "etcd" and not seat.state.etcd:
        seat.machine.write(layout.PEER, config.peer(None), 0o600)
    changed = service.settle(seat.machine, seat.node)
    record(seat, settings)
    return changed


def join(seat: Seat, settings: Settings, host: Seat) -> bool:
    """Bring a machine into the cluster of `host`, or go on with it; True when it was (re)started."""
    kubectl = Kubectl(host.machine)
    if not seat.seated:
        _forget(seat, kubectl)
        _invite(seat, host)
        if seat.server:
            seat.machine.write(layout.PEER, config.peer(config.url(settings, host.node)), 0o600)
    elif seat.server:
        seat.machine.shell(TOKENS)
    changed = service.settle(seat.machine, seat.node)
    record(seat, settings)
    return changed


def gate(seat: Seat, host: Seat, version: str = "") -> None:
    """Wait until the node is Ready, and a server's own API server too."""
    wait_ready(Kubectl(seat.machine if seat.server else host.machine), seat.node.name, version)


def record(seat: Seat, settings: Settings) -> None:
    """From now on a lost datastore means joining the others: a rebuilt founder must not found again."""
    others = [node for node in config.servers(settings) if node.name != seat.node.name]
    if seat.server and others and config.datastore(settings) == "etcd":
        seat.machine.write(layout.PEER, config.peer(config.url(settings, others[0])), 0o600)


def _forget(seat: Seat, kubectl: Kubectl) -> None:
    """A machine that comes back without its data is refused under its name until its old self is deleted."""
    comes_anew = seat.server or not seat.state.password
    if comes_anew and seat.node.name in kubectl.members():
        kubectl.delete(seat.node.name)


def _invite(seat: Seat, host: Seat) -> None:
    """Give a machine the token that its role needs, and no other."""
    servers = {
        layout.TOKEN: SERVER_TOKEN,
        layout.AGENT_TOKEN: layout.AGENT_TOKEN,
    }  # the latter alike on all, to the letter
    wanted = servers if seat.server else {layout.TOKEN: AGENTS_TOKEN}
    for target, source in wanted.items():
        content = host.machine.read(source)
        if not content:
            raise NodeError(host.machine.name, f"no token at {source}", fix="is k3s running there? run install first")
        seat.machine.write(target, content, 0o600)


def admin_config(host: Machine) -> str:
    """The administrator's kubeconfig, as k3s wrote it."""
    content = host.read(layout.KUBECONFIG)
    if content is None:
        raise ClusterError(f"{host.name} has no cluster yet", fix="install it first")
    return content.decode()
