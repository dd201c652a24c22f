"""Where things are on a machine: k3s's own places, and the driver's."""

BINARY = "/usr/local/bin/k3s"
LIBRARY = "/usr/local/lib/platformlib/k3s"
INPUTS = f"{LIBRARY}/inputs"
STARTED = "/run/platformlib-k3s"
CONFIG = "/etc/rancher/k3s/config.yaml"
PEER = "/etc/rancher/k3s/config.yaml.d/50-peer.yaml"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
TOKEN = "/etc/rancher/k3s/token"  # noqa: S105 - a path
AGENT_TOKEN = "/etc/rancher/k3s/agent-token"  # noqa: S105 - a path
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
DATA = "/var/lib/rancher/k3s"
SERVER = f"{DATA}/server"
IMAGES = f"{DATA}/agent/images"
ADMISSION = f"{SERVER}/psa.yaml"
AUDIT_POLICY = f"{SERVER}/audit.yaml"
AUDIT_LOG = f"{SERVER}/logs/audit.log"
SYSCTL = "/etc/sysctl.d/90-platformlib-k3s.conf"
MARK = "/etc/platformlib/k3s"
LABELLED = "/etc/platformlib/k3s.labelled"
DRAINED = "/etc/platformlib/k3s.drained"
SNAPSHOTS = "/var/lib/platformlib/k3s/snapshots"
PORT = 6443


def unit(role: str) -> str:
    """The systemd unit of a role, named as upstream's installer names it."""
    return "k3s" if role == "control-plane" else "k3s-agent"


def program(version: str) -> str:
    """The binary of one version; `BINARY` is a link to it, so that going back is one rename."""
    return f"{LIBRARY}/{version}/k3s"
