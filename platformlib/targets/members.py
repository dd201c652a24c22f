"""The cluster's machines against what the parameters say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformlib.checks import Result, verify
from platformlib.settings import Settings
from platformlib.targets.patience import until

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.targets.facade import Target


@dataclass(frozen=True)
class Members:
    """The machines of a target as members of its cluster."""

    target: "Target"

    def table(self) -> "pd.DataFrame":
        """node, role, ready, version, address, …: the nodes as the API server knows them."""
        return self.target.cluster.nodes()

    def login(self, *, timeout: float) -> "pd.DataFrame":
        """Wait until every machine takes a login; what they are. Raises WaitTimeout."""
        return until(self.target.cluster.facts, lambda _: "", timeout)

    def wait(self, *, timeout: float, ready: bool = False) -> "pd.DataFrame":
        """Until every machine of the parameters is a member, or a Ready one. Raises WaitTimeout, with their names."""
        return until(self.table, (unready if ready else absent)(self.target.settings), timeout)

    def verify(self, *, ready: bool = False) -> "pd.DataFrame":
        """Names, roles, versions and addresses are those of the parameters. Raises CheckFailed."""
        return verify(list(checks(self.target.settings, self.table(), ready=ready)))

    def claim(self) -> "pd.DataFrame":
        """Mark the cluster with the platform's name. Raises WrongCluster when it has another."""
        self.target.kube.claim(self.target.settings.name, self.target.settings.cluster.distribution)
        return self.target.touch()

    def release(self) -> "pd.DataFrame":
        """Take the name off the cluster again."""
        self.target.kube.release(self.target.settings.name)
        return self.target.touch()


def absent(settings: Settings) -> Callable[["pd.DataFrame"], str]:
    """What to wait for: every machine of the parameters is known to the API server."""

    def names(nodes: "pd.DataFrame") -> str:
        lacking = sorted({node.name for node in settings.cluster.nodes} - set(nodes["node"]))
        return f"not a member yet: {', '.join(lacking)}" if lacking else ""

    return names


def unready(settings: Settings) -> Callable[["pd.DataFrame"], str]:
    """What to wait for: every member is Ready."""

    def names(nodes: "pd.DataFrame") -> str:
        lacking = list(nodes.loc[~nodes["ready"].astype(bool), "node"])
        return absent(settings)(nodes) or (f"not Ready: {', '.join(lacking)}" if lacking else "")

    return names


def checks(settings: Settings, nodes: "pd.DataFrame", *, ready: bool) -> Iterator[Result]:
    """Each machine of the parameters is a member, in its role and version; no machine is that they do not name."""
    live = nodes.set_index("node")
    wanted = {node.name: node for node in settings.cluster.nodes}
    for name, node in wanted.items():
        found = live.loc[name] if name in live.index else None
        expected = f"{node.role}, {settings.cluster.version}, {node.address}"
        shown = "no member" if found is None else f"{found['role']}, {found['version']}, {found['address']}"
        yield Result(f"member {name}", expected == shown, expected, shown, "run notebooks/install.ipynb")
    strangers = sorted(set(live.index) - set(wanted)) if wanted else []
    fix = "add it to cluster.nodes, or take it out of the cluster"
    yield Result("no other members", not strangers, "none", ", ".join(strangers) or "none", fix)
    if ready:
        lacking = list(nodes.loc[~nodes["ready"].astype(bool), "node"])
        yield Result(
            "all Ready", not lacking, "none", ", ".join(lacking) or "none", "see the node's conditions and kubelet"
        )
