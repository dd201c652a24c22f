"""What kubeadm needs on a machine, and `kubeadm init` and `kubeadm join`, each exactly once.

kubeadm itself cannot be repeated. So each run happens under a lock on the machine, between two marks: a `started`
without a `done` is a run that was cut off, and is reset before the next one. A machine on which somebody else used
kubeadm has neither mark, and is never reset.

A file that was there before platformlib wrote its own is kept below `ORIGINAL`, and put back by an uninstall.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from platformlib.clusters.kubeadm import config
from platformlib.clusters.kubeadm.config import Invitation
from platformlib.errors import ClusterError, NodeError
from platformlib.machines import Machine
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings

LIBRARY, MARKS, ORIGINAL = "/usr/local/lib/platformlib", "/etc/platformlib/kubeadm", "/etc/platformlib/original"
LOCK = "exec 9> /run/platformlib.lock; flock 9"
CONTAINERD, UNIT = "/etc/containerd/config.toml", "/etc/systemd/system/kubelet.service"
MIRROR, SYSCTL = "/etc/containerd/certs.d/_default/hosts.toml", "/etc/sysctl.d/90-platformlib.conf"
FORWARD = "/proc/sys/net/ipv4/ip_forward"
PORT = 6443
TIMEOUT = 360.0  # seconds for one kubeadm
MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine of ELF, as `uname -m` calls it
# kubectl as the administrator, on the control plane: platformlib's own, or the machine's.
KUBECTL = (
    "sh", "-c",
    f'own={LIBRARY}/bin/kubectl; [ -x $own ] || own=kubectl; exec "$own" --kubeconfig /etc/kubernetes/admin.conf "$@"',
    "kubectl",
)  # fmt: skip

# $1 the program, then names. A name in /usr/local/bin that is not a link of ours is the user's, and stays; a user's
# kubectl elsewhere is not shadowed. Prints each link that it makes.
LINK = f"""set -eu
program=$1; shift
link() {{
  [ "$(readlink "$1" || true)" = "$program" ] && return
  ln -sfn "$program" "$1.platformlib"; mv -fT "$1.platformlib" "$1"; echo "$1"
}}
mkdir -p {LIBRARY}/bin
for name; do
  link {LIBRARY}/bin/$name
  own=/usr/local/bin/$name
  case "$(readlink "$own" || true)" in
    {LIBRARY}/*) link "$own" ;;
    *) [ -e "$own" ] || [ -L "$own" ] || {{ [ $name = kubectl ] && command -v kubectl >/dev/null; }} || link "$own" ;;
  esac
done"""
# $1 a path. Keeps what is there before the first write, once. On a machine that an earlier version of platformlib has
# installed, the files are its own already.
KEEP = f"""set -eu
kept="{ORIGINAL}$1"
if [ -e "$kept" ] || [ -e "$kept.absent" ]; then exit; fi
mkdir -p "$(dirname "$kept")"
if [ -e "$1" ] && ! [ -e {MARKS}.started ] && ! [ -e {MARKS}.done ]; then
  cp -a "$1" "$kept.new" && mv "$kept.new" "$kept"
else : > "$kept.absent"; fi"""
# $1 a path. The counterpart of KEEP; a function, as an uninstall calls it as well.
PUT_BACK = f"""put_back() {{
  kept="{ORIGINAL}$1"
  if [ -e "$kept" ]; then cp -a "$kept" "$1.platformlib" && mv -fT "$1.platformlib" "$1" && rm -f "$kept"
  elif [ -e "$kept.absent" ]; then rm -f "$1" "$kept.absent"; fi
}}"""
# $1 is init or join; the configuration comes by standard input, as a join's holds a token.
ONCE = f"""set -eu
{LOCK}
mkdir -p /etc/platformlib; marks={MARKS}
if [ -e $marks.done ]; then exit 0; fi
if [ -e $marks.started ]; then
  log=/var/log/kubeadm-reset.log
  kubeadm reset --force > $log 2>&1 9>&- || {{ tail -n 25 $log >&2; exit 1; }}
  rm -f /etc/cni/net.d/*kuberouter*
elif [ -e /etc/kubernetes/kubelet.conf ]; then
  echo "a cluster that platformlib did not make is on this machine" >&2
  exit 45
fi
touch $marks.started
umask 077; cat > $marks.yaml; trap 'rm -f $marks.yaml' EXIT
log=/var/log/kubeadm.log
kubeadm "$1" --config $marks.yaml > $log 2>&1 9>&- || {{ tail -n 25 $log >&2; exit 1; }}
mv $marks.started $marks.done; echo changed
"""
OLDER = """
began=$(systemctl show --property ActiveEnterTimestamp --value --timestamp=us containerd 2>/dev/null)
began=$(date -d "$began" +%s%N 2>/dev/null) || exit 0
[ "$(date -r "$1" +%s%N)" -lt "$began" ] || echo yes
"""
INVITE = """set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
kubeadm token create --ttl 15m 2>/dev/null
openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt |
  openssl pkey -pubin -outform der 2>/dev/null | sha256sum | cut -d' ' -f1
"""


@dataclass(frozen=True)
class Program:
    """The bundle's one binary of all Kubernetes programs, as it says of itself."""

    path: Path
    version: str
    architecture: str

    @property
    def target(self) -> str:
        """Where it stands on a machine."""
        return program(self.version)

    def refuse(self, version: str, seen: dict[str, Facts]) -> None:
        """Raises ClusterError or NodeError unless it is this version, and can run on all these machines."""
        if self.version != version:
            fix = f"put {self.version} into cluster.version, or build a bundle with {version}"
            raise ClusterError(f"the bundle has Kubernetes {self.version}, {version} is wanted", fix=fix)
        for facts in seen.values():
            if facts.architecture != self.architecture:
                fix = "machines of one architecture, with a bundle that was built on the same"
                raise NodeError(facts.node, f"it is {facts.architecture}, the bundle {self.architecture}", fix=fix)
            if facts.kubelet_path and not facts.kubelet_path.startswith(LIBRARY):
                fix = "remove that kubelet and its unit, or take the bundle away to work with what the machines have"
                raise NodeError(facts.node, f"another installer's kubelet is at {facts.kubelet_path}", fix=fix)


def program(version: str) -> str:
    """Where the programs of a version stand on a machine."""
    return f"{LIBRARY}/kubernetes-{version}"


@cache
def inspect(path: Path) -> Program:
    """Read version and architecture from the file: Go's own build information, and the header of ELF.

    Raises:
        ClusterError: it is no such program.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb"(?:dep|mod)\tk8s\.io/kubernetes\t(v[0-9A-Za-z.+-]+)\t", content)
        kind = MACHINES.get(int.from_bytes(content[18:20], "little"), "")
        if content[:4] != b"\x7fELF" or not found or not kind:
            raise ClusterError(f"{path} is no program of Kubernetes", fix="platformlib bundle build")
        return Program(path, found[1].decode(), kind)


def refuse(settings: Settings, seen: dict[str, Facts], bundled: Program | None) -> None:
    """Check what each machine would run, before any is changed.

    Raises:
        ClusterError: the bundle has another version or architecture than the parameters and machines.
        NodeError: without a bundle, a machine lacks the wanted version.
    """
    version = settings.cluster.version
    if bundled:
        bundled.refuse(version, seen)
        return
    for name, facts in seen.items():
        if facts.kubelet != version:
            fix = f"install kubelet, kubeadm and kubectl {version} there, or build a bundle: platformlib bundle build"
            raise NodeError(name, f"kubelet is {facts.kubelet or 'not installed'}, {version} is wanted", fix=fix)


@dataclass(frozen=True)
class File:
    """What a path should be: this content, or with None what it was before platformlib."""

    path: str
    content: str | None
    after: tuple[str, ...] = ()  # a command that makes a new content count


def wanted(settings: Settings, facts: Facts, bundled: Program | None) -> Iterator[File]:
    """Every file of one machine."""
    mirror = settings.registry.mirror
    yield File(CONTAINERD, config.containerd_config(facts), ("systemctl", "restart", "containerd"))
    yield File(MIRROR, config.mirror_config(str(mirror)) if mirror else None)  # read at every pull
    yield File(SYSCTL, "net.ipv4.ip_forward = 1\n", ("sysctl", "-q", "-p", SYSCTL))
    if bundled:  # a kubelet that comes with the machine has its own unit
        unit = files("platformlib.clusters.kubeadm").joinpath("files/kubelet.service").read_text("utf-8")
        yield File(UNIT, unit, ("systemctl", "daemon-reload"))


def plan(machine: Machine, settings: Settings, facts: Facts, bundled: Program | None) -> list[str]:
    """What `prepare` would do, in words; reads only."""
    told = []
    if bundled and not machine.run(["test", "-x", bundled.target], check=False).ok:
        told.append(f"upload Kubernetes {bundled.version}, link kubelet, kubeadm and kubectl")
    for file in wanted(settings, facts, bundled):
        content = machine.read(file.path)
        if file.content is not None and content != file.content.encode():
            told.append(f"write {file.path}" + (f", then {' '.join(file.after)}" if file.after else ""))
        elif file.content is None and _kept(machine, file.path):
            told.append(f"put back what {file.path} was")
    return told


def prepare(machine: Machine, settings: Settings, facts: Facts, bundled: Program | None) -> bool:
    """Make one machine ready; True when anything changed. `refuse` was called before."""
    changed = [binaries(machine, facts, bundled)] if bundled else []
    earlier = bool(facts.marks) and not _kept(machine, CONTAINERD)  # installed before originals were kept
    machine.change_shell(KEEP, FORWARD)
    for file in wanted(settings, facts, bundled):
        if file.content is None:
            if earlier and machine.read(file.path) is not None:
                machine.change_shell(KEEP, file.path)
            changed.append(_kept(machine, file.path))
            machine.change_shell(f'{PUT_BACK}\nput_back "$1"', file.path)
            continue
        machine.change_shell(KEEP, file.path)
        changed.append(machine.write(file.path, file.content))
        if file.after and (changed[-1] or file.path == SYSCTL or (file.path == CONTAINERD and _older(machine))):
            machine.change(file.after)
    machine.change(["systemctl", "enable", "--quiet", "kubelet"])
    return any(changed)


def _older(machine: Machine) -> bool:
    """Whether containerd started before its configuration was written: a run was killed before the restart."""
    return machine.shell(OLDER, CONTAINERD).strip() == "yes"


def _kept(machine: Machine, path: str) -> bool:
    return machine.shell('[ -e "$1" ] || [ -e "$1.absent" ] && echo yes || true', ORIGINAL + path).strip() == "yes"


def binaries(machine: Machine, facts: Facts, bundled: Program) -> bool:
    """Put the programs there and link them; True when anything changed.

    The programs of a member are not exchanged, not even for another build of their version: `upgrade` does that, node
    by node.
    """
    member = "done" in facts.marks and machine.run(["test", "-x", bundled.target], check=False).ok
    sent = False if member else machine.upload(bundled.path, bundled.target)
    return bool(machine.change_shell(LINK, bundled.target, "kubelet", "kubeadm", "kubectl").strip()) or sent


def init(machine: Machine, settings: Settings, node: Node, facts: Facts) -> bool:
    """`kubeadm init`, once; True when it ran now."""
    return _once(machine, "init", config.init_config(settings, node, facts))


def join(machine: Machine, node: Node, facts: Facts, invitation: Invitation) -> bool:
    """`kubeadm join`, once; True when it ran now."""
    return _once(machine, "join", config.join_config(node, facts, invitation))


def invite(control_plane: Machine) -> Invitation:
    """A short-lived bootstrap token and the hash of the cluster's CA key."""
    token, digest = control_plane.change_shell(INVITE).split()
    return Invitation(f"{control_plane.address}:{PORT}", token, f"sha256:{digest}")


def joined(machine: Machine) -> bool:
    """Whether a run of ours was completed on the machine."""
    return machine.run(["test", "-e", f"{MARKS}.done"], check=False).ok


def admin_config(control_plane: Machine) -> str:
    """The administrator's kubeconfig, as kubeadm wrote it."""
    content = control_plane.read("/etc/kubernetes/admin.conf")
    if content is None:
        raise ClusterError(f"{control_plane.name} has no cluster yet", fix="install it first")
    return content.decode()


def _once(machine: Machine, verb: str, document: str) -> bool:
    return machine.change_shell(ONCE, verb, stdin=document, timeout=TIMEOUT).strip().endswith("changed")
