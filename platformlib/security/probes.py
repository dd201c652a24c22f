"""Open real connections from inside a pod's network namespace, on the machine where the pod runs.

The pod's image needs no tools and the pod is not changed, so the platform's own pods can be tested as they are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from platformlib import machines
from platformlib.errors import PlatformError
from platformlib.paths import state_dir
from platformlib.security.declared import Object
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.machines import Machine

UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HOST = "host"  # stands for a UID: the network namespace of the machine itself
PORTS = 65_536
ANSWER_WITHIN = 2  # seconds; a connection without an answer is then called silent
BATCH = 40  # connections of one pod that are tried at the same time
TIMEOUT = 300.0  # seconds for all probes of one machine

# Input: one line per probe, `<pod UID, or host> <address> <port> <protocol>`. Output: the line and its result.
# Every line is data of the cluster: a line of another form ends the script, and no line becomes part of a command.
# One curl per pod opens all its TCP connections in parallel; any TCP connection counts, whatever the server says.
# UDP sends a DNS query, because nothing answers an empty datagram.
SCRIPT = r"""
export LC_ALL=C
command -v curl >/dev/null || { echo "curl is missing" >&2; exit 1; }
inside() { # PID, or host for the machine's own network namespace; then a command
  local pid=$1; shift
  if [ "$pid" = host ]; then "$@"; else nsenter -t "$pid" -n -- "$@"; fi
}
tcp() {
  awk '{ host = ($1 ~ /:/) ? "[" $1 "]" : $1; printf "url = http://%s:%s/\noutput = /dev/null\n", host, $2 }' |
    inside "$1" curl -q -s -Z --parallel-max BATCH --connect-timeout WITHIN --max-time WITHIN --noproxy '*' -g -K - \
      -w '%{url} %{time_connect} %{exitcode}\n' | awk -v uid="$2" '{
        url = $1; sub("^http://", "", url); sub("/$", "", url)
        port = url; sub(".*:", "", port); sub(":[0-9]*$", "", url); gsub("[][]", "", url)
        said = ($2 > 0) ? "open" : ($3 == 7) ? "refused" : ($3 == 28) ? "silent" : "error " $3
        print uid, url, port, "TCP", said }'
}
QUERY='exec 3<>"/dev/udp/$0/$1"; printf "\x12\x34\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1" >&3; head -c 2 <&3 | wc -c'
udp() {
  while read -r to port _; do
    got=$(inside "$1" timeout WITHIN bash -c "$QUERY" "$to" "$port" 2>/dev/null)
    echo "$2 $to $port UDP $([ "$got" = 2 ] && echo open || echo closed)"
  done
}
declare -A pids wanted
uid_form='^(host|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$'; probe_form='^[0-9a-f.:]+ [0-9]{1,5} (TCP|UDP)$'
while read -r uid rest; do
  [[ $uid =~ $uid_form && $rest =~ $probe_form ]] || { echo "not a probe" >&2; exit 1; }
  wanted[$uid]+="$rest"$'\n'
done
pids[host]=host
while IFS=: read -r path _ _ group; do
  [[ $group =~ [/-]pod([0-9a-f]{8}[-_][0-9a-f_-]{27})(\.slice)?(/|$) ]] || continue
  uid=${BASH_REMATCH[1]//_/-}
  pid=${path#/proc/}; [ -n "${pids[$uid]}" ] || pids[$uid]=${pid%/cgroup}
done < <(grep -E '[/-]pod[0-9a-f]{8}[_-]' /proc/[0-9]*/cgroup 2>/dev/null)
for uid in "${!wanted[@]}"; do
  pid=${pids[$uid]}
  if [ -z "$pid" ]; then
    while read -r rest; do [ -z "$rest" ] || printf '%s %s gone\n' "$uid" "$rest"; done <<< "${wanted[$uid]}"
  else
    printf '%s' "${wanted[$uid]}" | grep TCP | tcp "$pid" "$uid" &
    printf '%s' "${wanted[$uid]}" | grep UDP | udp "$pid" "$uid" &
  fi
done
wait
""".replace("WITHIN", str(ANSWER_WITHIN)).replace("BATCH", str(BATCH))


@dataclass(frozen=True)
class Probe:
    """One connection to try.

    Attributes:
        uid: UID of the pod that the connection starts from, or `HOST`.
        node: the node of that pod.
        address: where the connection goes.
        port: 1 to 65535.
        protocol: TCP or UDP. A UDP probe asks the port a DNS question.
    """

    uid: str
    node: str
    address: str
    port: int
    protocol: str = "TCP"

    def __post_init__(self) -> None:
        """Accept only the exact form of each value: they come from the cluster, and a root shell reads them.

        Raises:
            PlatformError: a value has another form.
        """
        known = self.uid == HOST or UID.fullmatch(self.uid)
        if not known or not _is_address(self.address) or not 0 < self.port < PORTS:
            raise PlatformError(f"not a pod's UID, address and port: {self.uid!r} {self.address!r} {self.port!r}")
        if self.protocol not in {"TCP", "UDP"}:
            raise PlatformError(f"cannot probe the protocol {self.protocol!r}")

    @property
    def line(self) -> str:
        """The line that the script reads."""
        return f"{self.uid} {self.address} {self.port} {self.protocol}"


def _is_address(text: str) -> bool:
    """Whether it is an IP address in its usual spelling. A zone (`fe80::1%…`) may be any text, so it is refused."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    return str(address) == text and "%" not in text


def start(pod: Object) -> tuple[str, str]:
    """Where a probe from this pod starts: its UID, or `HOST` for a pod on the host network, and its node.

    A static pod runs under another UID than the API server shows. Its annotation has that UID, but everybody who can
    create pods can write the annotation, so it is not used: static pods of a control plane use the host network.
    """
    spec, metadata = pod["spec"], pod["metadata"]
    return (HOST if spec.get("hostNetwork") else str(metadata["uid"])), str(spec["nodeName"])


def run(settings: Settings, probes: Iterable[Probe]) -> dict[Probe, str]:
    """Try connections, on all machines at the same time. Changes nothing on them.

    Returns:
        Per probe: open, refused, silent, closed (UDP), gone (no such pod there), or the error.

    Raises:
        PlatformError: a pod runs on a machine that the parameters do not name, so it cannot be reached by SSH.
    """
    wanted = list(dict.fromkeys(probes))
    known = {node.name: node for node in settings.cluster.nodes}
    if unknown := sorted({probe.node for probe in wanted} - set(known)):
        raise PlatformError(f"no SSH access to {', '.join(unknown)}", fix="name these machines under cluster.nodes")
    state = state_dir(settings.name)
    reached = [
        machines.connect(known[name], settings.cluster.ssh, state=state) for name in {each.node for each in wanted}
    ]
    answers = machines.each(reached, lambda machine: _on(machine, [e for e in wanted if e.node == machine.name]))
    return {probe: answers[probe.node].get(probe.line, "no answer") for probe in wanted}


def _on(machine: "Machine", probes: Sequence[Probe]) -> dict[str, str]:
    lines = "".join(f"{probe.line}\n" for probe in probes)
    said = machine.run(["bash", "-c", SCRIPT], stdin=lines, timeout=TIMEOUT).stdout
    return {" ".join(words[:4]): " ".join(words[4:]) for line in said.splitlines() if (words := line.split(" "))}
