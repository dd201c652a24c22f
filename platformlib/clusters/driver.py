"""What every distribution can do, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

OnEvent = Callable[[str], None]


def silent(_: str) -> None:
    """The default of `on_event`: events are not shown."""


class Driver(Protocol):
    """A distribution on the machines of a parameters file. Every verb can be repeated.

    With `dry_run=True` a driver changes nothing: install, join, upgrade, rollback and uninstall return a table with the
    columns node, step and action ("would …", or "unchanged").
    """

    def facts(self) -> "pd.DataFrame":
        """What the machines are, one row each; reads only."""

    def preflight(self) -> "pd.DataFrame":
        """Whether they are fit; reads only.

        Returns:
            Columns: node, check, ok, expected, found, fix.

        Raises:
            PreflightFailed: a machine is not fit; `.table` has every result.
        """

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Prepare all machines and initialise the cluster on the control plane.

        Returns:
            Columns: node, step, changed, seconds.
        """

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Join every machine that is not a member yet; columns as of install."""

    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, fetched if need be; mode 0600."""

    def nodes(self) -> "pd.DataFrame":
        """The cluster's nodes as the API server knows them: node, role, ready, version, address, …"""

    def upgrade(self, version: str, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Move to another version: a snapshot, the control plane, then node by node; columns as of install."""

    def uninstall(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        """Take the distribution off the machines; columns as of install, and `left`: what is still there."""
