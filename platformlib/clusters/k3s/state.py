"""What of k3s is on a machine, read without changing it: one round trip of plain POSIX shell."""

from dataclasses import dataclass

from platformlib.clusters.k3s import layout
from platformlib.machines import Machine
from platformlib.settings import Settings

# $1 and $2 are the ranges of pods and services.
READ = rf"""
D={layout.DATA}
echo "version=$({layout.BINARY} --version 2>/dev/null | awk 'NR==1{{print $3}}')"
echo "owner=$(cat {layout.MARK} 2>/dev/null)"
echo "traces=$(for path in {layout.BINARY} $D/server/db $D/agent/server-ca.crt /etc/systemd/system/k3s.service \
  /etc/systemd/system/k3s-agent.service {layout.CONFIG}; do [ -e $path ] && printf '%s ' $path; done)"
echo "etcd=$([ -d $D/server/db/etcd/member ] && echo yes)"
echo "sqlite=$([ -e $D/server/db/state.db ] && echo yes)"
ca=$D/server/tls/server-ca.crt; [ -e $ca ] || ca=$D/agent/server-ca.crt
echo "ca=$(sha256sum $ca 2>/dev/null | cut -c1-16)"
echo "agent=$([ -e $D/agent/server-ca.crt ] && echo yes)"
echo "encrypted=$(grep -qs '^secrets-encryption: true' {layout.CONFIG} && echo yes)"
echo "password=$([ -e /etc/rancher/node/password ] && echo yes)"
echo "active=$(systemctl is-active k3s k3s-agent 2>/dev/null | grep -qxE 'active|activating|reloading' && echo yes)"
echo "machine_id=$(cat /etc/machine-id 2>/dev/null)"
echo "sockets=$(ss -Hltunp 2>/dev/null | awk '{{n=split($5,a,":"); who=$7; sub(/.*\(\("/,"",who); sub(/".*/,"",who)
  printf "%s/%s/%s ", a[n], $1, (who ? who : "?")}}')"
echo "controllers=$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null || awk '$4==1{{printf "%s ",$1}}' /proc/cgroups)"
echo "lacking=$(for module in overlay br_netfilter vxlan; do
  modprobe -nq $module 2>/dev/null || grep -qsw $module /proc/filesystems || [ -e /sys/module/$module ] ||
  printf '%s ' $module; done)"
wall=none; open=yes
if systemctl is-active --quiet firewalld 2>/dev/null; then
  wall=firewalld; seen=$(firewall-cmd --zone=trusted --list-sources 2>/dev/null)
elif command -v ufw >/dev/null && LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; then
  wall=ufw; seen=$(LC_ALL=C ufw status 2>/dev/null)
fi
if [ $wall != none ]; then
  for range in "$1" "$2"; do case "$seen" in *"$range"*) ;; *) open=no ;; esac; done
fi
echo "firewall=$wall"
echo "open=$open"
"""


@dataclass(frozen=True)
class State:
    """k3s on one machine. `sockets` are (port, protocol, program); `ca` is the start of a hash."""

    version: str
    owner: str
    traces: tuple[str, ...]
    etcd: bool
    sqlite: bool
    agent: bool
    ca: str
    encrypted: bool
    password: bool
    active: bool
    machine_id: str
    sockets: tuple[tuple[int, str, str], ...]
    controllers: frozenset[str]
    lacking: tuple[str, ...]
    firewall: str
    open: bool

    @property
    def datastore(self) -> bool:
        """Whether a server's data is here: without it a server founds or joins, with it it goes on."""
        return self.etcd or self.sqlite

    @property
    def member(self) -> bool:
        """Whether this machine belongs to a cluster already."""
        return self.datastore or self.agent


def state(machine: Machine, settings: Settings) -> State:
    """Read one machine."""
    network = settings.cluster.network
    lines = machine.shell(READ, str(network.pods), str(network.services)).splitlines()
    read = dict(line.split("=", 1) for line in lines if "=" in line)
    flags = ("etcd", "sqlite", "agent", "encrypted", "password", "active", "open")
    texts = ("version", "owner", "ca", "machine_id", "firewall")
    return State(
        traces=tuple(read["traces"].split()),
        sockets=tuple(_socket(word) for word in read["sockets"].split() if word[0].isdigit()),
        controllers=frozenset(read["controllers"].split()),
        lacking=tuple(read["lacking"].split()),
        **{name: read[name] == "yes" for name in flags},  # type: ignore[arg-type]
        **{name: read[name] for name in texts},  # type: ignore[arg-type]
    )


def _socket(word: str) -> tuple[int, str, str]:
    port, protocol, program = word.split("/", 2)
    return int(port), protocol, program
