"""A cluster that others installed: known by its kubeconfig, never changed below the API."""

from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.clusters import kubeconfig
from platformlib.clusters.driver import OnEvent, silent
from platformlib.clusters.preflight import conclude
from platformlib.clusters.requirements import findings
from platformlib.clusters.table import node_table, step_table
from platformlib.errors import ClusterError
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

ELSEWHERE = "use the tool that installed the cluster"


class Existing:
    """The driver of distribution `existing`."""

    def __init__(self, settings: Settings, program: Path | None = None, *, dry_run: bool = False) -> None:
        self.settings, self.program, self.dry_run = settings, program, dry_run

    def facts(self) -> "pd.DataFrame":
        return self.nodes()

    def preflight(self) -> "pd.DataFrame":
        """What the layers need of it, as far as its API shows: the machines themselves are out of reach."""
        from platformlib.kube import Kube

        return conclude(findings(Kube.connect(self.kubeconfig(), self.settings.cluster.context)))

    def install(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        on_event("nothing to install: the cluster exists")
        return step_table([])

    def join(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        on_event("nothing to join: the cluster exists")
        return step_table([])

    def kubeconfig(self) -> Path:
        return kubeconfig.existing(self.settings)

    def nodes(self) -> "pd.DataFrame":
        return node_table(self.kubeconfig(), self.settings.cluster.context)

    def upgrade(self, version: str, on_event: OnEvent = silent) -> "pd.DataFrame":
        on_event("refused")
        raise ClusterError(f"a cluster that others installed is not upgraded to {version} from here", fix=ELSEWHERE)

    def uninstall(self, on_event: OnEvent = silent) -> "pd.DataFrame":
        on_event("refused")
        raise ClusterError("a cluster that others installed is not taken down from here", fix=ELSEWHERE)
