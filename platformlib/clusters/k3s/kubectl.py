"""The cluster's API by kubectl on one of its machines: what a driver asks of nodes, and the drain of one.

The way leads over SSH like everything else here, so it works where the API server cannot be reached from this host.
`command` says which kubectl: k3s's own, or any other with its kubeconfig.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from platformlib.clusters.k3s import layout
from platformlib.errors import ClusterError, CommandFailed
from platformlib.machines import Completed, Machine

K3S = (layout.BINARY, "kubectl")
GATE = 300.0
DRAIN = 300
VOTER = "EtcdIsVoter"
PROBE = "platformlib-probe"
# Pods of these owners come back elsewhere, or belong to the machine.
MANAGED = frozenset({"DaemonSet", "Node"})


@dataclass(frozen=True)
class Member:
    """One node as the API server knows it; `voter` is None where k3s does not say whether its etcd votes."""

    name: str
    ready: bool
    version: str
    cordoned: bool
    labels: dict[str, str]
    taints: frozenset[str]
    cause: str
    voter: bool | None = None


@dataclass(frozen=True)
class EtcdMember:
    """One member of etcd, as etcd knows it: k3s names it after its node."""

    name: str
    peers: tuple[str, ...]
    learner: bool

    @property
    def node(self) -> str:
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class Pod:
    """A pod that a drain would end; `lost` says what would be gone with it, nothing where it comes back elsewhere."""

    namespace: str
    name: str
    lost: str


@dataclass(frozen=True)
class Kubectl:
    """kubectl on a machine."""

    machine: Machine
    command: tuple[str, ...] = K3S

    def read(self, *arguments: str, timeout: float = 30, check: bool = True) -> Completed:
        """A kubectl that changes nothing."""
        return self.machine.run([*self.command, *arguments], timeout=timeout, check=check)

    def write(
        self, *arguments: str, stdin: str | None = None, timeout: float = 30, check: bool = True
    ) -> Completed:  # fmt: skip
        """A kubectl that changes the cluster. Raises DryRunRefused."""
        return self.machine.change([*self.command, *arguments], stdin=stdin, timeout=timeout, check=check)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get … -o json` answers."""
        return json.loads(self.read("get", *arguments, "-o", "json").stdout)

    def healthy(self) -> bool:
        """Whether the API server of this machine says that it is ready."""
        return self.read("get", "--raw", "/readyz", check=False).ok

    def members(self) -> dict[str, Member]:
        """The nodes by name."""
        return {member.name: member for member in map(_member, self.get("nodes")["items"])}

    def etcd(self) -> list[EtcdMember]:
        """The members of the embedded etcd; none with another datastore.

        k3s serves its list at /db/info, to requests from the machine itself (etcd.go, `infoHandler`).
        """
        answer = self.read("get", "--raw", "/db/info", check=False)
        if not answer.ok:
            if re.search(r"NotFound|could not find", answer.stderr):
                return []
            raise CommandFailed(self.machine.name, "kubectl get --raw /db/info", answer.status, answer.stderr)
        return [
            EtcdMember(it.get("name", ""), tuple(it.get("peerURLs", ())), bool(it.get("isLearner")))
            for it in json.loads(answer.stdout).get("members", ())
        ]

    def heartbeat(self, name: str) -> float:
        """When the node's kubelet last renewed its lease, by that machine's clock, in seconds since 1970; or 0."""
        answer = self.read("get", "lease", name, "-n", "kube-node-lease", "-o", "json", check=False)
        renewed = json.loads(answer.stdout)["spec"].get("renewTime") if answer.ok else None
        return datetime.fromisoformat(renewed).timestamp() if renewed else 0.0

    def delete(self, name: str) -> None:
        """Delete a node: its registration and password, and its member of etcd."""
        self.write("delete", "node", name, "--ignore-not-found", timeout=120)

    def pods(self, name: str) -> list[Pod]:
        """The pods of a node that a drain would end."""
        items = self.get("pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}")["items"]
        return [pod for pod in map(_pod, items) if pod]

    def drain(self, name: str, *, timeout: int = DRAIN, force: bool = False) -> None:
        """Evict the pods of a node, as far as their disruption budgets allow.

        Args:
            timeout: in seconds.
            force: end pods as well that nothing starts again.

        Raises:
            ClusterError: pods are left; names what keeps them.
        """
        lost = [pod for pod in self.pods(name) if pod.lost == "the pod"]
        if lost and not force:
            raise ClusterError(
                f"{name} has pods that nothing would start again: {_names(lost)}; nothing was evicted",
                fix="move or delete them, or give force=True to end them",
            )
        options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={timeout}s")
        try:
            self.write("drain", name, *options, *(["--force"] if force else []), timeout=timeout + 30)
        except CommandFailed as error:
            fix = (
                f"see what keeps them (kubectl get poddisruptionbudgets --all-namespaces), then run this again: it "
                f"continues; or give the node back: kubectl uncordon {name}"
            )
            raise ClusterError(
                f"{name} could not be drained within {timeout} s; it stays cordoned\n  {error}", fix=fix
            ) from None

    def uncordon(self, name: str) -> None:
        self.write("uncordon", name)


def _names(pods: list[Pod]) -> str:
    return ", ".join(f"{pod.namespace}/{pod.name}" for pod in pods)


def _member(node: dict[str, Any]) -> Member:
    meta, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    conditions = {it["type"]: it for it in status.get("conditions", ())}
    ready = conditions.get("Ready", {})
    taints = (f"{it['key']}={it.get('value', '')}:{it['effect']}" for it in spec.get("taints", ()))
    return Member(
        name=meta["name"],
        ready=ready.get("status") == "True",
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        cordoned=bool(spec.get("unschedulable")),
        labels=meta.get("labels", {}),
        taints=frozenset(taints),
        cause=ready.get("message", "never reported"),
        voter=conditions[VOTER]["status"] == "True" if VOTER in conditions else None,
    )


def _pod(pod: dict[str, Any]) -> Pod | None:
    """As `kubectl drain` judges it; None for what a drain leaves alone."""
    meta, spec, phase = pod["metadata"], pod.get("spec", {}), pod.get("status", {}).get("phase")
    owners = [it["kind"] for it in meta.get("ownerReferences", ()) if it.get("controller")]
    if MANAGED & set(owners) or phase in ("Succeeded", "Failed") or meta["name"].startswith(PROBE):
        return None
    empty = [it["name"] for it in spec.get("volumes", ()) if "emptyDir" in it]
    lost = "the pod" if not owners else f"emptyDir {', '.join(empty)}" if empty else ""
    return Pod(meta["namespace"], meta["name"], lost)


def probe(name: str, image: str) -> dict[str, Any]:
    """A pod on one node that does nothing: where it runs, kubelet, container runtime and pod network work."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65535,
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    limits = {"cpu": "10m", "memory": "16Mi"}
    container = {
        "name": "pause", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": security,
        "resources": {"requests": limits, "limits": limits},
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{PROBE}-{name}", "namespace": "kube-system"},
        "spec": {
            "nodeName": name,  # no scheduler is asked, so a cordoned node takes it too
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 120,  # one that was left behind ends by itself
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [container],
        },
    }


def wait(cause: Callable[[], str], what: str, deadline: float, *, pause: float = 0.5) -> None:
    """Ask `cause` until it has none; a command that fails is a cause like others.

    Raises:
        ClusterError: after `deadline` seconds; names the last cause.
    """
    end = time.monotonic() + deadline
    while last := _asked(cause):
        if time.monotonic() > end:
            raise ClusterError(
                f"{what} after {deadline:g} s: {last}", fix="see the journal there, then run this again"
            )  # fmt: skip
        time.sleep(pause)


def _asked(cause: Callable[[], str]) -> str:
    try:
        return cause()
    except CommandFailed as error:
        return str(error).splitlines()[-1].strip()
