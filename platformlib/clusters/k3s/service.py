"""The service of one machine: start it, restart it when its inputs changed, wait, name the cause, prove that it works.

k3s tells systemd that it is ready when its API server and its datastore are (server) or when it has reached an API
server (agent); the kubelet may still fail, and the node's condition stays Ready for some 40 s after its kubelet has
gone. So after a start the node is proven: by a heartbeat that is newer than the process, a process that stays, and a
pod that comes to run there.
"""

import json
import re
import time
from dataclasses import dataclass

from platformlib.clusters.k3s import layout
from platformlib.clusters.k3s.kubectl import GATE, PROBE, Kubectl, probe, wait
from platformlib.errors import ClusterError, NodeError
from platformlib.machines import Machine

# $1 the unit. Prints what was done, and where the journal ends. An unchanged, running service is left alone.
START = f"""set -eu
if [ -e {layout.HOLD} ]; then echo "held $(cat {layout.HOLD})"; exit; fi
cursor() {{ journalctl -u "$1" -n 0 --show-cursor -o cat 2>/dev/null | sed -n "s/^-- cursor: //p"; }}
cursor=$(cursor "$1")
systemctl daemon-reload
systemctl enable --quiet "$1"
state=$(systemctl is-active "$1" || true)
case $state in active|activating|reloading)
  if {layout.INPUTS} | cmp -s - {layout.STARTED}; then echo "same $cursor"; exit; fi ;;
esac
# What fails to start goes on saying so until it has ended: that is not the new start's error.
if [ "$state" = activating ]; then systemctl stop "$1"; cursor=$(cursor "$1"); fi
systemctl reset-failed "$1" 2>/dev/null || true
systemctl restart --no-block "$1"
echo "changed $cursor"
"""
# $1 the unit, $2 a cursor. The state, then what the unit itself has said since, in this boot.
LOOK = """systemctl is-active "$1" || true
journalctl -b -u "$1" ${2:+--after-cursor="$2"} -o cat -n 200 2>/dev/null
"""
# $1 the unit. Its main process, its restarts, when that process started by the machine's clock, and what it said first.
PROCESS = """export TZ=UTC LC_ALL=C
systemctl show "$1" -p MainPID -p NRestarts -p InvocationID
echo "Started=$(date -d "$(systemctl show "$1" -p ExecMainStartTimestamp --value)" +%s)"
id=$(systemctl show "$1" -p InvocationID --value)
journalctl -b -o cat _SYSTEMD_INVOCATION_ID="$id" 2>/dev/null | head -n 300 |
  sed -n 's/.*Unknown flag -*\\([^ ]*\\) found in config.yaml, skipping.*/Unknown=\\1/p' | sort -u
"""
STOP = """systemctl stop "$1"; systemctl reset-failed "$1" 2>/dev/null; true"""
SECRET = re.compile(r"K10[0-9a-f]+::\S+|(?<=token=)\S+")
MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"|^[EF]\d{4} [\d:.]+ +\d+ \S+\] (.*)$')
# What a server says of others is no failure of its own: `Sending HTTP 401 response to ADDRESS` is another machine's
# wrong token.
OF_OTHERS = re.compile(r"^(Sending HTTP \d+ response to |http: TLS handshake error from )")
# k3s goes on trying after these, but waiting cannot mend them.
TERMINAL = (
    (r"duplicate node name", "another member has that name: delete that node, then join again"),
    (r"Node password rejected", "a node of that name is registered: kubectl delete node, then join again"),
    (r"critical configuration", "the servers' settings differ: run install again, so that all have the same"),
    (r"token CA hash does not match", "the token is another cluster's: uninstall this node, then join again"),
    (
        r"(token is not valid|[Ff]ailed to (validate|retrieve|get|authenticate)|preparing server).*"
        r"(401|[Uu]nauthorized|not authorized)",
        "a server refused this machine's token: uninstall this node, then join again",
    ),
    (r"address already in use", "stop what listens there: ss -ltnp"),
    (r"flag provided but not defined", "this version does not know that option: see cluster.k3s.config"),
    (r"has been permanently removed from the cluster", "uninstall this node, then join again"),
)
DEADLINE = 300.0
STEADY = 5.0
PAUSE_IMAGE = "docker.io/rancher/mirrored-pause:3.6"


@dataclass(frozen=True)
class Process:
    """The main process of the service: `started` by the machine's own clock, in whole seconds since 1970."""

    pid: int
    restarts: int
    started: float
    unknown: tuple[str, ...]


def settle(machine: Machine, role: str) -> bool:
    """Start the service, or restart it if what it was started from has changed; True when it was (re)started.

    Ends when systemd says that it is active.

    Raises:
        NodeError: it does not come up; names k3s's own last error. Or it skips options that it does not know.
        ClusterError: an interrupted restore holds it.
    """
    name = layout.unit(role)
    done, _, rest = machine.change_shell(START, name, timeout=180).strip().partition(" ")
    if done == "held":
        raise ClusterError(f"{machine.name}: k3s is held by an interrupted {rest}", fix=again(rest))
    wait(lambda: _inactive(machine, name, rest), f"{machine.name}: {name} is not active", DEADLINE)
    if unknown := process(machine, role).unknown:
        raise NodeError(
            machine.name,
            f"k3s runs, but skips options of config.yaml that this version does not know: {', '.join(unknown)}",
            fix="take them out of cluster.k3s.config, or upgrade to a version that has them",
        )
    return done == "changed"


def again(hold: str) -> str:
    """How an interrupted verb is continued, from the words in the hold's file."""
    verb, _, name = hold.partition(" ")
    given = f"nodes=[{name!r}]" if verb == "uninstall" else repr(name) if name else ""
    return f"run {verb}({given}) again: it continues"


def stop(machine: Machine, role: str) -> None:
    """Stop the service; its pods go on."""
    machine.change_shell(STOP, layout.unit(role), timeout=180)


def own_errors(journal: str) -> list[str]:
    """The messages of level error and above about this machine itself, without tokens; the newest last."""
    found = (match for line in journal.splitlines() if (match := MESSAGE.search(line)))
    messages = (SECRET.sub("<token>", match[1] or match[2] or "") for match in found)
    return [text for text in messages if not OF_OTHERS.match(text)]


def _inactive(machine: Machine, name: str, cursor: str) -> str:
    """Why the service is not active; nothing when it is, whatever its journal says."""
    state, _, journal = machine.shell(LOOK, name, cursor).partition("\n")
    if state == "active":
        return ""
    errors = own_errors(journal)
    for mark, fix in TERMINAL:
        if hit := next((text for text in reversed(errors) if re.search(mark, text)), ""):
            raise NodeError(machine.name, f"{name} does not start: {hit[-300:]}", fix=fix)
    return f"{state}; {errors[-1][-300:] if errors else 'no error in its journal'}"


def process(machine: Machine, role: str) -> Process:
    """What runs as the service now."""
    lines = machine.shell(PROCESS, layout.unit(role)).splitlines()
    read = dict(line.split("=", 1) for line in lines if "=" in line)
    unknown = tuple(line.partition("=")[2] for line in lines if line.startswith("Unknown="))
    return Process(int(read["MainPID"]), int(read["NRestarts"]), float(read.get("Started") or 0), unknown)


def ready(kubectl: Kubectl, name: str, version: str = "", *, deadline: float = GATE) -> None:
    """Until the API server is ready and has the node as Ready, in that version if one is given. Raises ClusterError."""
    wait(lambda: _unready(kubectl, name, version), f"{name} is not ready", deadline)


def _unready(kubectl: Kubectl, name: str, version: str) -> str:
    if not kubectl.healthy():
        return f"the API server of {kubectl.machine.name} is not ready"
    member = kubectl.members().get(name)
    if member is None:
        return "the API server does not know it"
    if version and member.version != version:
        return f"it reports {member.version or 'no version'}, {version} is wanted"
    if not member.ready:
        return member.cause
    return "its etcd is no voting member yet" if member.voter is False else ""


def prove(machine: Machine, role: str, kubectl: Kubectl, version: str = "", *, deadline: float = GATE) -> None:
    """Until the node has shown that it works since its last start: heartbeat, a process that stays, a pod that runs.

    Args:
        kubectl: on a machine whose API server counts: a server's own, another's for an agent.
        version: what the node has to report.

    Raises:
        ClusterError: after `deadline` seconds; names what is missing, and k3s's own last error.
    """
    end = time.monotonic() + deadline
    try:
        while not _proven(machine, role, kubectl, version, end):
            _in_time(end, f"{machine.name}: k3s keeps restarting")
    except ClusterError as error:
        errors = own_errors(machine.shell(LOOK, layout.unit(role), ""))
        last = f"\n  its last error: {errors[-1][-300:]}" if errors else ""
        what = str(error).partition("\n")[0]
        raise ClusterError(
            f"{what}{last}", fix=f"see journalctl -b -u {layout.unit(role)} there, then run again"
        ) from None


def _in_time(end: float, what: str) -> None:
    if time.monotonic() > end:
        raise ClusterError(what)


def _proven(machine: Machine, role: str, kubectl: Kubectl, version: str, end: float) -> bool:
    """Whether the process that was there at the beginning is still there when all else is shown."""
    before, since = process(machine, role), time.monotonic()
    left = max(end - time.monotonic(), 1.0)
    ready(kubectl, machine.name, version, deadline=left)
    wait(lambda: _silent(kubectl, machine.name, before.started), f"{machine.name} is not proven", left)
    run_pod(machine, kubectl, deadline=max(end - time.monotonic(), 1.0))
    time.sleep(max(STEADY - (time.monotonic() - since), 0.0))
    after = process(machine, role)
    return (after.pid, after.restarts) == (before.pid, before.restarts)


def _silent(kubectl: Kubectl, name: str, started: float) -> str:
    """Both times are of the machine's own clock. The start is known to a second: a heartbeat within it may be old."""
    beat = kubectl.heartbeat(name)
    return "" if beat >= started + 1 else "its kubelet has sent no heartbeat since k3s started"


def run_pod(machine: Machine, kubectl: Kubectl, *, deadline: float = GATE) -> None:
    """Until a pod has come to run on the node; it is deleted again. Raises ClusterError, with the pod's last state."""
    name = f"{PROBE}-{machine.name}"
    where = ("pod", name, "-n", "kube-system")
    manifest = json.dumps(probe(machine.name, pause_image(machine)))
    gone = ("delete", *where, "--ignore-not-found", "--grace-period=0", "--force", "--wait=true")
    kubectl.write(*gone, timeout=90)

    def cause() -> str:
        answer = kubectl.read("get", *where, "-o", "json", check=False)
        if not answer.ok:
            kubectl.write("create", "-f", "-", stdin=manifest)
            return "a pod for it was created"
        status = json.loads(answer.stdout).get("status", {})
        if status.get("phase") == "Running":
            return ""
        waiting = [it.get("state", {}).get("waiting", {}) for it in status.get("containerStatuses", ())]
        why = next((f"{it.get('reason')}: {it.get('message', '')}" for it in waiting if it), status.get("message", ""))
        return f"a pod on it is {status.get('phase') or 'not started'} {why}".strip()

    try:
        wait(cause, f"{machine.name} is not proven", deadline)
    finally:
        kubectl.write(*gone, timeout=90, check=False)


def pause_image(machine: Machine) -> str:
    """The image that every pod of this machine needs, by the name under which it is there."""
    answer = machine.run([layout.BINARY, "crictl", "images", "-o", "json"], check=False)
    try:
        images = json.loads(answer.stdout).get("images", ()) if answer.ok else ()
    except ValueError:
        images = ()
    tags = [tag for image in images for tag in image.get("repoTags") or ()]
    return next((tag for tag in tags if "pause:" in tag), PAUSE_IMAGE)
