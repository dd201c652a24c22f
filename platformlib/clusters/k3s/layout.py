"""Where things are on a machine: k3s's own places, and the driver's."""

BINARY = "/usr/local/bin/k3s"
LIBRARY = "/usr/local/lib/platformlib/k3s"
INPUTS = f"{LIBRARY}/inputs"
STARTED = "/run/platformlib-k3s"
FOLDER = "/etc/rancher/k3s"
CONFIG = f"{FOLDER}/config.yaml"
DROPINS = f"{CONFIG}.d"
PEER = f"{DROPINS}/50-peer.yaml"
REGISTRIES = f"{FOLDER}/registries.yaml"
TRUST = f"{FOLDER}/platformlib-registries"
TOKEN = f"{FOLDER}/token"
AGENT_TOKEN = f"{FOLDER}/agent-token"
KUBECONFIG = f"{FOLDER}/k3s.yaml"
DATA = "/var/lib/rancher/k3s"
SERVER = f"{DATA}/server"
DATABASE = f"{SERVER}/db"
SCHEDULED = f"{DATABASE}/snapshots"
MANIFESTS = f"{SERVER}/manifests"
IMAGES = f"{DATA}/agent/images"
ADMISSION = f"{SERVER}/psa.yaml"
AUDIT_POLICY = f"{SERVER}/audit.yaml"
AUDIT_LOG = f"{SERVER}/logs/audit.log"
SYSCTL = "/etc/sysctl.d/90-platformlib-k3s.conf"
MARK = "/etc/platformlib/k3s"
LABELLED = "/etc/platformlib/k3s.labelled"
DRAINED = "/etc/platformlib/k3s.drained"
# While this file is there, systemd does not start k3s: not at boot, not after a crash, not by hand.
HOLD = "/etc/platformlib/k3s.hold"
RESTORED = "/etc/platformlib/k3s.restored"
OWN = "/var/lib/platformlib/k3s"
SNAPSHOTS = f"{OWN}/snapshots"
ASIDE = f"{OWN}/aside"
RESET = f"{OWN}/reset.yaml"
PORT = 6443


def unit(role: str) -> str:
    """The systemd unit of a role, named as upstream's installer names it."""
    return "k3s" if role == "control-plane" else "k3s-agent"


def unit_file(role: str) -> str:
    return f"/etc/systemd/system/{unit(role)}.service"


def environment_file(role: str) -> str:
    return f"/etc/systemd/system/{unit(role)}.service.env"


def program(version: str) -> str:
    """The binary of one version. `BINARY` is the same file under a second name, so switching is one rename."""
    return f"{LIBRARY}/{version}/k3s"
