"""Real connections: opened from inside a pod's own network namespace, on the machine where it runs.

The pod's image needs no tools and the pod is not touched, so that the platform's own pods can be asked as they are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from platformlib import machines
from platformlib.errors import PlatformError
from platformlib.paths import state_dir
from platformlib.security.declared import Object
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.machines import Machine

UID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a static pod's has no dashes
PORTS = 65_536
PATIENCE = 2  # seconds until silence is an answer
BATCH = 40  # connections of one pod that are tried at once
TIMEOUT = 300.0  # seconds for all probes of one machine

# Input: a line for each probe, `<pod uid> <address> <port> <protocol>`. Output: the line and its result.
# One curl a pod opens all its TCP connections side by side; whatever a server says to HTTP, it was reached.
# Over UDP a name is asked for: nobody answers an empty datagram.
SCRIPT = r"""
command -v curl >/dev/null || { echo "curl is missing" >&2; exit 1; }
tcp() {
  awk '{ printf "url = http://%s:%s/\noutput = /dev/null\n", $1, $2 }' | nsenter -t "$1" -n curl -s -Z \
    --parallel-max BATCH --connect-timeout PATIENCE --max-time PATIENCE --noproxy '*' -K - \
    -w '%{url} %{time_connect} %{exitcode}\n' | awk -v uid="$2" '{
      split($1, part, "[/:]")
      said = ($2 > 0) ? "open" : ($3 == 7) ? "refused" : ($3 == 28) ? "silent" : "error " $3
      print uid, part[4], part[5], "TCP", said }'
}
udp() {
  while read -r to port _; do
    query='\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01'
    ask="exec 3<>/dev/udp/$to/$port; printf '$query' >&3; head -c 2 <&3 | wc -c"
    got=$(nsenter -t "$1" -n timeout PATIENCE bash -c "$ask" 2>/dev/null)
    echo "$2 $to $port UDP $([ "$got" = 2 ] && echo open || echo closed)"
  done
}
declare -A pids
while IFS=: read -r path _ _ group; do
  uid=${group##*/pod}; uid=${uid##*-pod}; uid=${uid%%/*}; uid=${uid%.slice}; uid=${uid//_/-}
  pid=${path#/proc/}; [ -n "${pids[$uid]}" ] || pids[$uid]=${pid%/cgroup}
done < <(grep -E '[/-]pod[0-9a-f_-]{32,}' /proc/[0-9]*/cgroup 2>/dev/null)
declare -A wanted
uid_form='^[0-9a-f-]{32,36}$'; probe_form='^[0-9a-f.:]+ [0-9]{1,5} (TCP|UDP)$'
while read -r uid rest; do
  [[ $uid =~ $uid_form && $rest =~ $probe_form ]] || { echo "not a probe" >&2; exit 1; }
  wanted[$uid]+="$rest"$'\n'
done
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
""".replace("PATIENCE", str(PATIENCE)).replace("BATCH", str(BATCH))


@dataclass(frozen=True)
class Probe:
    """One connection to try. `uid` and `node` are those of the pod that it starts from."""

    uid: str
    node: str
    address: str
    port: int
    protocol: str = "TCP"

    def __post_init__(self) -> None:
        """All of it comes from the cluster, and a machine's root shell reads it: only the forms that it may have.

        Raises:
            PlatformError: a value has another form.
        """
        try:
            address = str(ip_address(self.address))
        except ValueError:
            address = ""
        if address != self.address or not UID.fullmatch(self.uid) or not 0 < self.port < PORTS:
            raise PlatformError(f"not a pod's uid, address and port: {self.uid!r} {self.address!r} {self.port!r}")
        if self.protocol not in {"TCP", "UDP"}:
            raise PlatformError(f"cannot probe the protocol {self.protocol!r}")

    @property
    def line(self) -> str:
        """As the script reads it."""
        return f"{self.uid} {self.address} {self.port} {self.protocol}"


def run(settings: Settings, probes: Iterable[Probe]) -> dict[Probe, str]:
    """open, refused, silent, closed (UDP), gone, or what went wrong; all machines side by side.

    Raises:
        PlatformError: a pod is on a machine that the parameters do not name, so that it cannot be entered.
    """
    wanted = list(dict.fromkeys(probes))
    known = {node.name: node for node in settings.cluster.nodes}
    if strangers := sorted({probe.node for probe in wanted} - set(known)):
        raise PlatformError(f"no way into {', '.join(strangers)}", fix="name these machines under cluster.nodes")
    state = state_dir(settings.name)
    entered = [
        machines.connect(known[name], settings.cluster.ssh, state=state) for name in {each.node for each in wanted}
    ]
    answers = machines.each(
        entered, lambda machine: _on(machine, [each for each in wanted if each.node == machine.name])
    )
    found = {line: result for answer in answers.values() for line, result in answer.items()}
    return {probe: found.get(probe.line, "no answer") for probe in wanted}


def _on(machine: "Machine", probes: Sequence[Probe]) -> dict[str, str]:
    machine.write("/run/platformlib-probe", SCRIPT, 0o700)
    lines = "".join(f"{probe.line}\n" for probe in probes)
    said = machine.run(["bash", "/run/platformlib-probe"], stdin=lines, timeout=TIMEOUT).stdout
    return {" ".join(words[:4]): " ".join(words[4:]) for line in said.splitlines() if (words := line.split(" "))}


def start(pod: Object) -> tuple[str, str]:
    """uid and machine of a pod, as a probe begins. A static pod's own uid is not the API server's."""
    metadata, node = pod["metadata"], str(pod["spec"]["nodeName"])
    annotations = metadata.get("annotations") or {}
    # Anybody may write the annotation on a pod; only a kubelet can make a pod that its own Node owns.
    owners = {(each.get("kind"), each.get("name")) for each in metadata.get("ownerReferences") or []}
    mirrored = annotations.get("kubernetes.io/config.hash") if ("Node", node) in owners else None
    uid = str(mirrored) if mirrored and UID.fullmatch(str(mirrored)) else str(metadata["uid"])
    return uid, node
