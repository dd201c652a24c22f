"""The cluster's API by kubectl on one of its machines: what a driver asks of nodes, cordon, drain, labels, taints.

It goes over SSH like everything else that a driver does, so it works where the API server cannot be reached from here.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from platformlib.errors import ClusterError, CommandFailed
from platformlib.machines import Completed, Machine
from platformlib.settings import Node

DRAIN = 300  # seconds
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# What platformlib keeps on a node: that it has cordoned it, and which labels and taints it has set.
CORDONED, SET = "platformlib.io/cordoned-for", "platformlib.io/set"


@dataclass(frozen=True)
class Member:
    """One node as the API server knows it; a taint is `key=value:effect`."""

    name: str
    ready: bool
    version: str
    cordoned: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: frozenset[str] = frozenset()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""


@dataclass(frozen=True)
class Kubectl:
    """kubectl on a machine: `command` is how it is called there."""

    machine: Machine
    command: tuple[str, ...]

    def read(self, *arguments: str, timeout: float = 30, check: bool = True) -> Completed:
        """A kubectl that changes nothing."""
        return self.machine.run([*self.command, *arguments], timeout=timeout, check=check)

    def write(self, *arguments: str, timeout: float = 30) -> Completed:
        """A kubectl that changes the cluster. Raises DryRunRefused on the machine of a dry run."""
        return self.machine.change([*self.command, *arguments], timeout=timeout)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get … -o json` answers."""
        return json.loads(self.read("get", *arguments, "-o", "json").stdout)

    def healthy(self) -> bool:
        """Whether the API server of this machine says that it is ready."""
        return self.read("get", "--raw", "/readyz", check=False).ok

    def version(self) -> str:
        """The version of the API server."""
        return str(json.loads(self.read("get", "--raw", "/version").stdout)["gitVersion"])

    def members(self) -> dict[str, Member]:
        """The nodes by name."""
        return {member.name: member for member in map(_member, self.get("nodes")["items"])}

    def drain(self, name: str, *, timeout: int = DRAIN) -> None:
        """Cordon a node and evict its pods, as far as their disruption budgets allow; `timeout` in seconds.

        Raises:
            ClusterError: pods are left; says what keeps them.
        """
        options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={timeout}s")
        try:
            self.write("drain", name, *options, timeout=timeout + 30)
        except CommandFailed as error:
            fix = "see what keeps them: kubectl get poddisruptionbudgets --all-namespaces; then run this again"
            raise ClusterError(f"{name} could not be drained within {timeout} s\n  {error}", fix=fix) from None

    def uncordon(self, name: str) -> None:
        self.write("uncordon", name)

    def annotate(self, name: str, key: str, value: str | None) -> None:
        """Set an annotation of a node; None removes it."""
        self.write("annotate", "node", name, "--overwrite", f"{key}-" if value is None else f"{key}={value}")


def _member(node: dict[str, Any]) -> Member:
    meta, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    ready: dict[str, str] = next((it for it in status.get("conditions", ()) if it["type"] == "Ready"), {})
    taints = (f"{it['key']}={it.get('value', '')}:{it['effect']}" for it in spec.get("taints", ()))
    return Member(
        name=meta["name"],
        ready=ready.get("status") == "True",
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        cordoned=bool(spec.get("unschedulable")),
        labels=meta.get("labels") or {},
        taints=frozenset(taints),
        annotations=meta.get("annotations") or {},
        cause=ready.get("message", "it has never reported"),
    )


def full(taint: str) -> str:
    """`key:effect` as `key=:effect`, which is how a node's own taints are written here."""
    return taint if "=" in taint else taint.replace(":", "=:")


def label_changes(node: Node, member: Member, taints: Iterable[str], unwanted: Iterable[str] = ()) -> list[list[str]]:
    """The arguments of kubectl that give a node its labels and taints; none when it has them.

    Only what was set from here before is ever removed. The record of it is written last, so that an interrupted run is
    repeated.

    Args:
        node: with its labels in the settings.
        taints: those that the node should have.
        unwanted: taints to remove although they were not set from here.
    """
    kept = json.loads(member.annotations.get(SET, "{}"))
    wanted = {full(taint) for taint in taints}
    added = [f"{key}={value}" for key, value in sorted(node.labels.items()) if member.labels.get(key) != value]
    gone = [f"{key}-" for key in kept.get("labels", ()) if key not in node.labels and key in member.labels]
    tainted = sorted(wanted - member.taints)
    lifted = sorted({*kept.get("taints", ()), *map(full, unwanted)} & (member.taints - wanted))
    record = json.dumps({"labels": sorted(node.labels), "taints": sorted(wanted)})
    changes = []
    if added or gone:
        changes.append(["label", "node", node.name, "--overwrite", *added, *gone])
    if tainted or lifted:
        removed = [f"{taint.replace('=:', ':')}-" for taint in lifted]
        changes.append(["taint", "node", node.name, "--overwrite", *tainted, *removed])
    if json.loads(record) != kept and (node.labels or wanted or kept):
        changes.append(["annotate", "node", node.name, "--overwrite", f"{SET}={record}"])
    return changes


def wait(cause: Callable[[], str], what: str, deadline: float, *, pause: float = 1.0) -> None:
    """Ask `cause` until it has none; a command that fails is a cause like others.

    Raises:
        ClusterError: after `deadline` seconds; names the last cause.
    """
    end = time.monotonic() + deadline
    while last := _asked(cause):
        if time.monotonic() > end:
            fix = "see the journal there, then run this again"
            raise ClusterError(f"{what} after {deadline:g} s: {last}", fix=fix)
        time.sleep(pause)


def _asked(cause: Callable[[], str]) -> str:
    try:
        return cause()
    except CommandFailed as error:
        return str(error).splitlines()[-1].strip()
