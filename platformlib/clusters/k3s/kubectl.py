"""The cluster's API by kubectl on one of its machines: what a driver asks of nodes, and the drain of one.

The way leads over SSH like everything else here, so it works where the API server cannot be reached from this host.
`command` says which kubectl: k3s's own, or any other with its kubeconfig.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from platformlib.clusters.k3s import layout
from platformlib.errors import ClusterError, CommandFailed
from platformlib.machines import Completed, Machine

K3S = (layout.BINARY, "kubectl")
GATE = 300.0
DRAIN = 300


@dataclass(frozen=True)
class Member:
    """One node as the API server knows it."""

    name: str
    ready: bool
    version: str
    cordoned: bool
    labels: dict[str, str]
    taints: frozenset[str]
    cause: str


@dataclass(frozen=True)
class Kubectl:
    """kubectl on a machine."""

    machine: Machine
    command: tuple[str, ...] = K3S

    def run(self, *arguments: str, timeout: float = 30, check: bool = True) -> Completed:
        return self.machine.run([*self.command, *arguments], timeout=timeout, check=check)

    def healthy(self) -> bool:
        """Whether the API server of this machine says that it is ready."""
        return self.run("get", "--raw", "/readyz", check=False).ok

    def members(self) -> dict[str, Member]:
        """The nodes by name."""
        items: list[dict[str, Any]] = json.loads(self.run("get", "nodes", "-o", "json").stdout)["items"]
        return {member.name: member for member in map(_member, items)}

    def delete(self, name: str) -> None:
        """Forget a node: its registration, its password, its membership of etcd."""
        self.run("delete", "node", name, "--ignore-not-found", timeout=120)

    def drain(self, name: str, *, timeout: int = DRAIN) -> None:
        """Evict the pods of a node, as far as their disruption budgets allow; `timeout` in seconds.

        Raises:
            ClusterError: pods are left; names them and what keeps them.
        """
        options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={timeout}s")
        try:
            self.run("drain", name, *options, timeout=timeout + 30)
        except CommandFailed as error:
            fix = "mend what holds the pods back (a disruption budget?), then run this again: it goes on here"
            raise ClusterError(
                f"{name} could not be drained within {timeout} s; it stays cordoned\n  {error}", fix=fix
            ) from None

    def uncordon(self, name: str) -> None:
        self.run("uncordon", name)


def _member(node: dict[str, Any]) -> Member:
    meta, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    ready: dict[str, str] = next((it for it in status.get("conditions", ()) if it["type"] == "Ready"), {})
    taints = (f"{it['key']}={it.get('value', '')}:{it['effect']}" for it in spec.get("taints", ()))
    return Member(
        name=meta["name"],
        ready=ready.get("status") == "True",
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        cordoned=bool(spec.get("unschedulable")),
        labels=meta.get("labels", {}),
        taints=frozenset(taints),
        cause=ready.get("message", "never reported"),
    )


def wait_ready(kubectl: Kubectl, name: str, version: str = "", *, deadline: float = GATE) -> None:
    """Until the API server is ready and has the node as Ready, in that version if one is given.

    Raises:
        ClusterError: after `deadline` seconds; names the last cause.
    """
    wait(lambda: _unready(kubectl, name, version), f"{name} is not ready", deadline)


def _unready(kubectl: Kubectl, name: str, version: str) -> str:
    """Why a node is not ready; nothing when it is."""
    if not kubectl.healthy():
        return f"the API server of {kubectl.machine.name} is not ready"
    member = kubectl.members().get(name)
    if member is None:
        return "the API server does not know it"
    if version and member.version != version:
        return f"it reports {member.version or 'no version'}, {version} is wanted"
    return "" if member.ready else member.cause


def wait(cause: Callable[[], str], what: str, deadline: float, *, pause: float = 0.5) -> None:
    """Ask `cause` until it has none; a command that fails is a cause like others."""
    end = time.monotonic() + deadline
    while last := _asked(cause):
        if time.monotonic() > end:
            raise ClusterError(f"{what} after {deadline:g} s: {last}", fix="see the journal there, then run this again")
        time.sleep(pause)


def _asked(cause: Callable[[], str]) -> str:
    try:
        return cause()
    except CommandFailed as error:
        return str(error).splitlines()[-1].strip()
