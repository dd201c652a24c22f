"""What every distribution can do, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

OnEvent = Callable[[str], None]


def silent(_: str) -> None:
    """No one wants to hear."""


class Driver(Protocol):
    """A distribution on the machines of a parameters file. Every step can be repeated."""

    def facts(self) -> "pd.DataFrame":
        """What the machines are, one row each; changes nothing."""

    def preflight(self) -> "pd.DataFrame":
        """Whether they are fit: node, check, ok, expected, found, fix. Raises PreflightFailed with the table."""

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Prepare all machines and found the cluster on the control plane: node, step, changed, seconds."""

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Join every machine that is not a member yet: node, step, changed, seconds."""

    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, fetched if need be; mode 0600."""

    def nodes(self) -> "pd.DataFrame":
        """The cluster's nodes as the API server knows them: node, role, ready, version, address, …"""

    def upgrade(self, version: str, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Move to another version: control plane first, then node by node."""

    def uninstall(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Take the distribution off the machines: node, step, changed, seconds; what is left is listed."""
