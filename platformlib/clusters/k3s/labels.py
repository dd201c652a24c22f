"""Labels and taints of registered nodes: k3s gives them at registration only, so a change goes through the API."""

import json

from platformlib.clusters.k3s import layout
from platformlib.clusters.k3s.kubectl import Kubectl
from platformlib.machines import Machine
from platformlib.settings import Node

NOTHING = '{"labels": [], "taints": []}'


def label(machine: Machine, node: Node, kubectl: Kubectl) -> bool:
    """Make the node's labels and taints those of the settings; True when any was changed.

    Only what was set from here before is ever taken away: the list of it is kept on the machine, and written after
    the work, so that a run that is cut off is done again.
    """
    kept = machine.read(layout.LABELLED)
    if not (kept or node.labels or node.taints):
        return False
    before = json.loads(kept or NOTHING)
    member = kubectl.members()[node.name]
    taints = {taint if "=" in taint else taint.replace(":", "=:") for taint in node.taints}
    added = [f"{key}={value}" for key, value in sorted(node.labels.items()) if member.labels.get(key) != value]
    gone = [f"{key}-" for key in before["labels"] if key not in node.labels and key in member.labels]
    tainted = sorted(taints - member.taints)
    lifted = [f"{taint.replace('=:', ':')}-" for taint in before["taints"] if taint in member.taints - taints]
    if added or gone:
        kubectl.run("label", "node", node.name, "--overwrite", *added, *gone)
    if tainted or lifted:
        kubectl.run("taint", "node", node.name, "--overwrite", *tainted, *lifted)
    machine.write(layout.LABELLED, json.dumps({"labels": sorted(node.labels), "taints": sorted(taints)}))
    return bool(added or gone or tainted or lifted)
