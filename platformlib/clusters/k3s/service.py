"""The service of one machine: start it, restart it when its inputs changed, wait, and name the cause of a failure."""

import re

from platformlib.clusters.k3s import layout
from platformlib.clusters.k3s.kubectl import wait
from platformlib.errors import NodeError
from platformlib.machines import Machine
from platformlib.settings import Node

# Prints what was done, and where the journal ends. An unchanged, running service is left alone.
START = f"""set -eu
cursor=$(journalctl -u "$1" -n 0 --show-cursor -o cat 2>/dev/null | sed -n "s/^-- cursor: //p")
systemctl daemon-reload
systemctl enable --quiet "$1"
state=$(systemctl is-active "$1" || true)
case $state in active|activating|reloading)
  if {layout.INPUTS} | cmp -s - {layout.STARTED}; then echo "same $cursor"; exit; fi ;;
esac
systemctl reset-failed "$1" 2>/dev/null || true
systemctl restart --no-block "$1"
echo "changed $cursor"
"""
LOOK = """systemctl is-active "$1" || true
journalctl -u "$1" ${2:+--after-cursor="$2"} -o cat -n 60 2>/dev/null
"""
SECRET = re.compile(r"K10[0-9a-f]+::\S+|(?<=token=)\S+")
# k3s goes on trying after these, but waiting cannot mend them.
TERMINAL = {
    "duplicate node name": "another member has that name: delete that node, then join again",
    "Node password rejected": "a node of that name is registered: delete it (kubectl delete node), then join again",
    "critical configuration": "the servers' settings differ: run install again, so that all have the same",
    "token CA hash does not match": "the token is another cluster's: uninstall this node, then join again",
    "not authorized": "the server refused the token: uninstall this node, then join again",
    "401 Unauthorized": "the server refused the token: uninstall this node, then join again",
    "address already in use": "stop what listens there: ss -ltnp",
    "flag provided but not defined": "the version does not know that option: see cluster.k3s.config",
    "Unknown option": "the version does not know that option: see cluster.k3s.config",
}
DEADLINE = 300.0


def settle(machine: Machine, node: Node) -> bool:
    """Start the service, or restart it if what it was started from has changed; True when it was (re)started.

    Ends when systemd says that it is active: k3s tells it when the node works.

    Raises:
        NodeError: it does not come up; names k3s's own last error.
    """
    name = layout.unit(node.role)
    done, _, cursor = machine.shell(START, name).strip().partition(" ")
    wait(lambda: _inactive(machine, name, cursor), f"{machine.name}: {name} is not active", DEADLINE)
    return done == "changed"


def _inactive(machine: Machine, name: str, cursor: str) -> str:
    """Why the service is not active; nothing when it is."""
    state, _, journal = machine.shell(LOOK, name, cursor).partition("\n")
    lines = [SECRET.sub("<token>", line) for line in journal.splitlines() if re.search(r"fatal|error|Error", line)]
    for mark, fix in TERMINAL.items():
        if hit := next((line for line in reversed(lines) if mark in line), ""):
            raise NodeError(machine.name, f"{name} does not start: {hit[-300:]}", fix=fix)
    return "" if state == "active" else f"{state}; {lines[-1][-300:] if lines else 'no error in its journal'}"
