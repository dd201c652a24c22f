"""A cluster of kubeadm on paper: what upgrades ask of machines and of kubectl, answered from a small state.

It knows what must never happen (`faults`), and can lose the connection at any command: before it ran, or after it ran
but before its answer came.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platformlib.clusters.kubeadm import install, upgrade
from platformlib.clusters.kubectl import CONTROL_PLANE
from platformlib.errors import CommandFailed, NodeUnreachable
from platformlib.machines import Completed, Machine

OLD, NEW = "v1.35.4", "v1.35.5"


@dataclass
class Node:
    """One node and its machine."""

    kubelet: str = OLD
    link: str = OLD
    ready: bool = True
    cordoned: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    programs: set[str] = field(default_factory=lambda: {OLD})


class World:
    """The state of a control plane `c` and its workers."""

    def __init__(self, workers: tuple[str, ...] = ("w1", "w2")) -> None:
        self.nodes = {name: Node() for name in ("c", *workers)}
        if workers:
            self.nodes["c"].taints = [{"key": CONTROL_PLANE, "effect": "NoSchedule"}]
        self.api = self.recorded = OLD
        self.healthy = True
        self.snapshots: list[str] = []
        self.faults: list[str] = []
        self.refuses_drain: set[str] = set()
        self.breaks: set[str] = set()  # nodes whose kubelet does not come up in the new version
        self.breaks_api = False  # the new API server does not come up
        self.commands, self.cut, self.answered = 0, 0, False

    def machines(self, *, dry_run: bool = False) -> list["PaperMachine"]:
        return [PaperMachine(self, name, dry_run=dry_run) for name in self.nodes]

    def state(self) -> dict[str, tuple[str, bool, dict[str, str]]]:
        return {name: (node.kubelet, node.cordoned, node.annotations) for name, node in self.nodes.items()}

    # What kubectl is asked.

    def kubectl(self, *words: str) -> str:
        if words[:2] == ("get", "--raw"):
            if not self.healthy:
                raise CommandFailed("c", "kubectl", 1, "connection refused")
            return json.dumps({"gitVersion": self.api}) if words[2] == "/version" else "ok"
        if not self.healthy:
            raise CommandFailed("c", "kubectl", 1, "connection refused")
        match words:
            case ("get", "nodes", *_):
                return json.dumps({"items": [self._node(name) for name in self.nodes]})
            case ("get", "configmap", *_):
                return f"apiVersion: v1\nkubernetesVersion: {self.recorded}\n"
            case ("drain", name, *_):
                self._drain(name)
            case ("uncordon", name):
                self.nodes[name].cordoned = False
            case ("annotate", "node", name, "--overwrite", change):
                key, _, value = change.partition("=")
                kept = self.nodes[name].annotations
                kept.pop(key[:-1], None) if not value and key.endswith("-") else kept.update({key: value})
            case _:
                raise AssertionError(words)
        return ""

    def _node(self, name: str) -> dict[str, Any]:
        node = self.nodes[name]
        status = {"type": "Ready", "status": str(node.ready), "message": "kubelet is broken"}
        return {
            "metadata": {"name": name, "annotations": node.annotations},
            "spec": {"unschedulable": node.cordoned, "taints": node.taints},
            "status": {"conditions": [status], "nodeInfo": {"kubeletVersion": node.kubelet}},
        }

    def _drain(self, name: str) -> None:
        if held := [other for other, node in self.nodes.items() if other != name and node.cordoned]:
            self.faults.append(f"{name} is drained while {held} are cordoned")
        self.nodes[name].cordoned = True
        if name in self.refuses_drain:
            raise CommandFailed("c", "kubectl drain", 1, "Cannot evict pod: disruption budget")

    # What is done on machines.

    def script(self, name: str, script: str, *words: str) -> str:
        node = self.nodes[name]
        match script:
            case upgrade.SAVE:
                self.snapshots.append(words[0])
                return "id\n"
            case upgrade.LIST:
                return "".join(f"2026{number:04} {version} 1000\n" for number, version in enumerate(self.snapshots))
            case upgrade.MANIFESTS:
                if words[1] == "all":
                    self.api, self.healthy, self.breaks_api = self.snapshots[-1], True, False
            case upgrade.KUBEADM:
                self._kubeadm(words)
            case install.LINK:
                self._link(name, node, words[0].removeprefix(install.program("")))
            case upgrade.PRUNE:
                node.programs &= {word.removeprefix(install.program("")) for word in words}
            case _:
                raise AssertionError(script)
        return ""

    def _kubeadm(self, words: tuple[str, ...]) -> None:
        if words[2] == "apply":
            if self.api not in self.snapshots:
                self.faults.append("kubeadm upgrade apply without a snapshot")
            if self.breaks_api:
                self.healthy = False
                raise CommandFailed("c", "kubeadm", 1, "timed out waiting for the API server")
            self.api = self.recorded = words[4]

    def _link(self, name: str, node: Node, version: str) -> None:
        alone = not [it for other, it in self.nodes.items() if other != name and it.ready and not it.taints]
        if node.link != version and node.ready and not node.cordoned and not alone:
            self.faults.append(f"the kubelet of {name} is exchanged undrained")
        if version not in node.programs:
            self.faults.append(f"{name} has no {version}")
        node.link = version

    def restart(self, name: str) -> None:
        node = self.nodes[name]
        node.ready = not (name in self.breaks and node.link == NEW)
        node.kubelet = node.link if node.ready else node.kubelet


class PaperMachine(Machine):
    """One machine of a world."""

    def __init__(self, world: World, name: str, *, dry_run: bool = False) -> None:
        super().__init__(name, "127.0.0.1", dry_run=dry_run)
        self.world = world

    def run(self, argv: Any, *, check: bool = True, **_: Any) -> Completed:
        self.world.commands += 1
        cut = self.world.cut and self.world.commands >= self.world.cut
        if cut and (self.world.commands > self.world.cut or not self.world.answered):
            raise NodeUnreachable(self.name, "no SSH connection: cut by the test")
        try:
            done = Completed(0, self._run(list(argv)), "")
        except CommandFailed as error:
            if check and not cut:
                raise
            done = Completed(error.status, "", error.output)
        if cut:
            raise NodeUnreachable(self.name, "no SSH connection: cut by the test")
        return done

    def _run(self, argv: list[str]) -> str:
        if tuple(argv[:4]) == install.KUBECTL:
            return self.world.kubectl(*argv[4:])
        match argv:
            case ["sh", "-c", script, "sh", *words]:
                return self.world.script(self.name, script, *words)
            case ["readlink", _]:
                return install.program(self.world.nodes[self.name].link) + "\n"
            case ["test", "-e", _]:
                return ""
            case ["test", "-x", path]:
                if path.removeprefix(install.program("")) in self.world.nodes[self.name].programs:
                    return ""
                raise CommandFailed(self.name, "test", 1, "")
            case ["systemctl", "restart", "kubelet"]:
                self.world.restart(self.name)
                return ""
        raise AssertionError(argv)

    def upload(self, source: Path, path: str, mode: int = 0o755) -> bool:  # noqa: ARG002
        self._refuse(path)
        version = path.removeprefix(install.program(""))
        there = version in self.world.nodes[self.name].programs
        self.world.nodes[self.name].programs.add(version)
        return not there
