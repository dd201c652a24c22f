"""Founding the cluster and joining it, each exactly once, whatever was interrupted before.

kubeadm itself cannot be repeated. So each run happens under a lock on the machine, between two marks: a
`started` without a `done` is a run that was cut off, and is reset before the next one. A machine that kubeadm
was used on by somebody else has neither mark, and is never reset.
"""

from platformlib.clusters.kubeadm import config
from platformlib.clusters.kubeadm.config import Invitation
from platformlib.errors import ClusterError
from platformlib.machines import Machine
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings

# $1 is init or join; the configuration comes by standard input, as a join's holds a token.
ONCE = """set -eu
exec 9> /run/platformlib.lock; flock 9
mkdir -p /etc/platformlib; marks=/etc/platformlib/kubeadm
if [ -e $marks.done ]; then exit 0; fi
if [ -e $marks.started ]; then
  kubeadm reset --force >/dev/null 2>&1 9>&-
  rm -f /etc/cni/net.d/*kuberouter*
elif [ -e /etc/kubernetes/kubelet.conf ]; then
  echo "a cluster that platformlib did not make is on this machine" >&2
  exit 45
fi
touch $marks.started
umask 077; cat > $marks.yaml; trap 'rm -f $marks.yaml' EXIT
log=/var/log/kubeadm.log
kubeadm "$1" --config $marks.yaml > $log 2>&1 9>&- || { tail -n 25 $log >&2; exit 1; }
mv $marks.started $marks.done; echo changed
"""
INVITE = """set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
kubeadm token create --ttl 15m 2>/dev/null
openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt |
  openssl pkey -pubin -outform der 2>/dev/null | sha256sum | cut -d' ' -f1
"""
MINUTES = 60
PORT = 6443


def found(machine: Machine, settings: Settings, node: Node, facts: Facts) -> bool:
    """`kubeadm init`, once; True when the cluster was founded now."""
    return _once(machine, "init", config.init_config(settings, node, facts), 6 * MINUTES)


def join(machine: Machine, node: Node, facts: Facts, invitation: Invitation) -> bool:
    """`kubeadm join`, once; True when the machine joined now."""
    return _once(machine, "join", config.join_config(node, facts, invitation), 6 * MINUTES)


def invite(control_plane: Machine) -> Invitation:
    """A short-lived bootstrap token and the hash of the cluster's CA key."""
    token, digest = control_plane.shell(INVITE).split()
    return Invitation(f"{control_plane.address}:{PORT}", token, f"sha256:{digest}")


def joined(machine: Machine) -> bool:
    """Whether a run of ours was completed on the machine."""
    return machine.run(["test", "-e", "/etc/platformlib/kubeadm.done"], check=False).ok


def admin_config(control_plane: Machine) -> str:
    """The administrator's kubeconfig, as kubeadm wrote it."""
    content = control_plane.read("/etc/kubernetes/admin.conf")
    if content is None:
        raise ClusterError(f"{control_plane.name} has no cluster yet", fix="install it first")
    return content.decode()


def _once(machine: Machine, verb: str, document: str, timeout: float) -> bool:
    return machine.shell(ONCE, verb, stdin=document, timeout=timeout).strip().endswith("changed")
