"""What of k3s is on a machine, and what the machine is to k3s; read without changing it, in one round trip."""

from dataclasses import dataclass

from platformlib.clusters.k3s import layout
from platformlib.machines import Machine
from platformlib.settings import Settings

# $1 and $2 are the ranges of pods and services.
READ = rf"""
D={layout.DATA}
PATH=$PATH:/usr/sbin:/sbin
echo "version=$({layout.BINARY} --version 2>/dev/null | awk 'NR==1{{print $3}}')"
echo "owner=$(cat {layout.MARK} 2>/dev/null)"
echo "hold=$(cat {layout.HOLD} 2>/dev/null)"
echo "restored=$(cat {layout.RESTORED} 2>/dev/null)"
echo "traces=$(for path in {layout.BINARY} /usr/bin/k3s /opt/bin/k3s /usr/local/bin/k3s-uninstall.sh \
  /usr/local/bin/k3s-agent-uninstall.sh $D/server/db $D/agent/server-ca.crt /etc/systemd/system/k3s*.service \
  {layout.CONFIG}; do [ -e $path ] && printf '%s ' $path; done)"
echo "etcd=$([ -d $D/server/db/etcd/member/wal ] && echo yes)"
echo "sqlite=$([ -e $D/server/db/state.db ] && echo yes)"
ca=$D/server/tls/server-ca.crt; [ -e $ca ] || ca=$D/agent/server-ca.crt
echo "ca=$(sha256sum $ca 2>/dev/null | cut -c1-16)"
echo "agent=$([ -e $D/agent/server-ca.crt ] && echo yes)"
echo "encrypted=$(grep -qs '^secrets-encryption: true' {layout.CONFIG} && echo yes)"
echo "password=$([ -e /etc/rancher/node/password ] && echo yes)"
echo "active=$(systemctl is-active k3s k3s-agent 2>/dev/null | grep -qxE 'active|activating|reloading' && echo yes)"
registries=none
[ -e {layout.REGISTRIES} ] && registries=foreign
head -n 1 {layout.REGISTRIES} 2>/dev/null | grep -q '^# Written by platformlib' && registries=ours
echo "registries=$registries"
echo "machine_id=$(cat /etc/machine-id 2>/dev/null)"
echo "sockets=$(ss -Hltunp 2>/dev/null | awk '{{n=split($5,a,":"); who=$7; sub(/.*\(\("/,"",who); sub(/".*/,"",who)
  printf "%s/%s/%s ", a[n], $1, (who ? who : "?")}}')"
echo "interfaces=$(ip -4 -o addr show 2>/dev/null | awk '{{sub("/.*","",$4); printf "%s=%s ", $2, $4}}')"
echo "gateway=$(ip -4 route show default 2>/dev/null |
  awk '{{for (i=1; i<NF; i++) if ($i=="dev") {{print $(i+1); exit}}}}')"
echo "controllers=$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null || awk '$4==1{{printf "%s ",$1}}' /proc/cgroups)"
echo "cmdline=$(for file in /boot/firmware/cmdline.txt /boot/cmdline.txt; do [ -f $file ] && echo $file && break; done)"
echo "lacking=$(for module in overlay br_netfilter vxlan; do
  modprobe -nq $module 2>/dev/null || grep -qsw $module /proc/filesystems || [ -e /sys/module/$module ] ||
  printf '%s ' $module; done)"
echo "forwarding=$(grep -lsE '^ *net\.ipv4\.(ip_forward|conf\.all\.forwarding) *= *0' /etc/sysctl.conf \
  /etc/sysctl.d/*.conf /usr/lib/sysctl.d/*.conf 2>/dev/null | tr '\n' ' ')"
echo "selinux=$(getenforce 2>/dev/null | tr 'A-Z' 'a-z')"
policy=
[ -e /usr/share/selinux/packages/k3s.pp ] && policy=yes
[ -n "$policy" ] || semodule -l 2>/dev/null | grep -q '^k3s' && policy=yes
echo "policy=$policy"
wall=none; open=yes
if systemctl is-active --quiet firewalld 2>/dev/null; then
  wall=firewalld; seen=$(firewall-cmd --zone=trusted --list-sources 2>/dev/null)
elif command -v ufw >/dev/null && LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; then
  wall=ufw; seen=$(LC_ALL=C ufw status 2>/dev/null)
elif seen=$(nft list ruleset 2>/dev/null) && printf %s "$seen" | grep -E 'hook (input|forward)' | grep -q 'policy drop'
then
  wall=nftables
fi
if [ $wall != none ]; then
  for range in "$1" "$2"; do case "$seen" in *"$range"*) ;; *) open=no ;; esac; done
fi
echo "firewall=$wall"
echo "open=$open"
"""


@dataclass(frozen=True)
class State:
    """k3s on one machine.

    Attributes:
        hold: why k3s may not start here: the restore or migration that was interrupted; empty otherwise.
        restored: the snapshot whose restore here was not yet followed by all other machines.
        ca: the start of the hash of the cluster's authority.
        registries: `none`, `ours` or `foreign`: whose registries.yaml it is.
        sockets: (port, protocol, program).
        interfaces: (name, address); `gateway` is the name of the default route's.
        cmdline: where the kernel's command line is kept, on machines that have such a file.
        forwarding: files that turn IP forwarding off at each boot.
        selinux: `enforcing`, `permissive`, `disabled`, or nothing where it is not known.
        policy: whether k3s's SELinux policy is installed.
        open: whether the firewall knows the ranges of pods and services.
    """

    version: str
    owner: str
    hold: str
    restored: str
    traces: tuple[str, ...]
    etcd: bool
    sqlite: bool
    agent: bool
    ca: str
    encrypted: bool
    password: bool
    active: bool
    registries: str
    machine_id: str
    sockets: tuple[tuple[int, str, str], ...]
    interfaces: tuple[tuple[str, str], ...]
    gateway: str
    controllers: frozenset[str]
    cmdline: str
    lacking: tuple[str, ...]
    forwarding: tuple[str, ...]
    selinux: str
    policy: bool
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

    def interface_of(self, address: str) -> str:
        """The interface that has the address, where that is another than the one that flannel takes by itself."""
        found = next((name for name, own in self.interfaces if own == address), "")
        return found if found != self.gateway else ""


def state(machine: Machine, settings: Settings) -> State:
    """Read one machine."""
    network = settings.cluster.network
    lines = machine.shell(READ, str(network.pods), str(network.services)).splitlines()
    read = dict(line.split("=", 1) for line in lines if "=" in line)
    flags = ("etcd", "sqlite", "agent", "encrypted", "password", "active", "policy", "open")
    texts = (
        "version",
        "owner",
        "hold",
        "restored",
        "ca",
        "registries",
        "machine_id",
        "gateway",
        "cmdline",
        "selinux",
        "firewall",
    )
    return State(
        traces=tuple(read["traces"].split()),
        sockets=tuple(_socket(word) for word in read["sockets"].split() if word[0].isdigit()),
        interfaces=tuple((name, own) for name, _, own in (word.partition("=") for word in read["interfaces"].split())),
        controllers=frozenset(read["controllers"].split()),
        lacking=tuple(read["lacking"].split()),
        forwarding=tuple(read["forwarding"].split()),
        **{name: read[name] == "yes" for name in flags},  # type: ignore[arg-type]
        **{name: read[name] for name in texts},  # type: ignore[arg-type]
    )


def _socket(word: str) -> tuple[int, str, str]:
    port, protocol, program = word.split("/", 2)
    return int(port), protocol, program


# What is known of a machine that does not answer.
NOTHING = State(
    version="", owner="", hold="", restored="", traces=(), etcd=False, sqlite=False, agent=False, ca="",
    encrypted=False, password=False, active=False, registries="none", machine_id="", sockets=(), interfaces=(),
    gateway="", controllers=frozenset(), cmdline="", lacking=(), forwarding=(), selinux="", policy=False,
    firewall="none", open=True,
)  # fmt: skip
