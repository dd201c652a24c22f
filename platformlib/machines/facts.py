"""What a machine is, read without changing it: one round trip of plain POSIX shell."""

import time
from dataclasses import dataclass

from platformlib.machines.machine import Machine

GiB = 1024**3
READ = r"""
. /etc/os-release 2>/dev/null
echo "os=${PRETTY_NAME:-unknown}"
echo "hostname=$(hostname)"
echo "architecture=$(uname -m)"
echo "kernel=$(uname -r)"
echo "cpus=$(nproc)"
echo "memory=$(awk '/^MemTotal/{printf "%d", $2*1024}' /proc/meminfo)"
echo "memory_limit=$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -n1)"
echo "swap=$(awk 'NR>1{s+=$3*1024} END{print s+0}' /proc/swaps)"
echo "disk_free=$(df -PB1 /var/lib | awk 'NR==2{print $4}')"
echo "cgroup=$([ -e /sys/fs/cgroup/cgroup.controllers ] && echo 2 || echo 1)"
echo "init=$(cat /proc/1/comm)"
echo "containerd=$(containerd --version 2>/dev/null | awk '{print $3}')"
echo "kubelet=$(kubelet --version 2>/dev/null | awk '{print $2}')"
echo "addresses=$(ip -4 -o addr show | awk '{sub("/.*","",$4); printf "%s ", $4}')"
# A blackhole, say, has its type before its range; a range with several ways has a line for each way below it.
echo "routes=$(ip -4 route show |
  awk '{r=$1} r ~ /^[a-z]/ {r=$2} $1 !~ /^(default|nexthop)$/ && r != "default" {printf "%s ", r}')"
echo "listening=$(ss -Hltn 2>/dev/null | awk '{n=split($4,a,":"); printf "%s ", a[n]}')"
echo "member=$([ -e /etc/kubernetes/kubelet.conf ] && echo yes || echo no)"
echo "marks=$(for mark in done started; do [ -e /etc/platformlib/kubeadm.$mark ] && printf '%s ' $mark; done)"
echo "kubelet_path=$(readlink -f "$(command -v kubelet)" 2>/dev/null)"
echo "ca=$(sha256sum /etc/kubernetes/pki/ca.crt 2>/dev/null | cut -c1-16)"
echo "container=$(systemd-detect-virt --container 2>/dev/null || true)"
echo "oom=$(sh -c 'echo -500 > /proc/self/oom_score_adj' 2>/dev/null && echo yes || echo no)"
echo "clock=$(date +%s.%N)"
"""


@dataclass(frozen=True)
class Facts:
    """One machine's facts; sizes in bytes, `skew` in seconds against this host's clock.

    `memory` is what the kernel has, `memory_limit` what the machine may use of it; they differ in a container. `marks`
    are those of platformlib's own runs of kubeadm: done, started.
    """

    node: str
    os: str
    hostname: str
    architecture: str
    kernel: str
    cpus: int
    memory: int
    memory_limit: int
    swap: int
    disk_free: int
    cgroup: int
    init: str
    containerd: str
    kubelet: str
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    listening: frozenset[int]
    member: bool
    ca: str
    container: str
    oom: bool
    skew: float
    marks: tuple[str, ...] = ()
    kubelet_path: str = ""

    @property
    def in_container(self) -> bool:
        """Whether the machine shares its kernel and disk with a host, as the lab's do."""
        return self.container not in ("", "none")


def facts(machine: Machine) -> Facts:
    """Read one machine's facts."""
    before = time.time()
    lines = machine.shell(READ).splitlines()
    middle = (before + time.time()) / 2
    read = dict(line.split("=", 1) for line in lines if "=" in line)
    numbers = {key: int(float(read[key] or 0)) for key in ("cpus", "memory", "swap", "disk_free", "cgroup")}
    limit = int(read["memory_limit"]) if read["memory_limit"].isdigit() else numbers["memory"]  # "max" has none
    texts = {
        key: read[key]
        for key in (
            "os",
            "hostname",
            "architecture",
            "kernel",
            "init",
            "containerd",
            "kubelet",
            "kubelet_path",
            "ca",
            "container",
        )
    }
    return Facts(
        node=machine.name,
        memory_limit=min(limit, numbers["memory"]),
        addresses=tuple(read["addresses"].split()),
        routes=tuple(read["routes"].split()),
        listening=frozenset(int(port) for port in read["listening"].split() if port.isdigit()),
        member=read["member"] == "yes",
        marks=tuple(read["marks"].split()),
        oom=read["oom"] == "yes",
        skew=round(float(read["clock"]) - middle, 1),
        **numbers,  # type: ignore[arg-type]
        **texts,  # type: ignore[arg-type]
    )
