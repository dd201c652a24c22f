"""One platform and every tool for it."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from platformlib.settings import Settings
from platformlib.targets import plan, scope
from platformlib.targets.patience import until
from platformlib.targets.steps import Step, Timed, report
from platformlib.targets.touch import touch

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.clusters import Driver
    from platformlib.kube import Kube
    from platformlib.layers import Installed, Stack
    from platformlib.query import Catalog, Loki, Prometheus
    from platformlib.targets.marker import Marker
    from platformlib.targets.members import Members
    from platformlib.targets.pods import Pods
    from platformlib.targets.removal import Removal
    from platformlib.targets.security import Security

NAMESPACE = "observability"
Source = Literal["prometheus", "loki"]
MACHINES = "machines"


class Target:
    """A validated platform. Its tools are made when they are first used, so that naming a target costs nothing.

    Args:
        until: the last layer that is worked on; default: all that the settings name.
        dry_run: what would change the cluster or its machines is tried or told, never done.
    """

    def __init__(self, settings: Settings, *, until: str | None = None, dry_run: bool = False) -> None:
        self.settings = settings
        self.scope = scope.scope(settings, until, dry_run=dry_run)
        self.history: list[Step] = []

    def __repr__(self) -> str:
        cluster = self.settings.cluster
        return f"Target({self.settings.name}: {cluster.distribution}, {len(cluster.nodes)} nodes)"

    @property
    def kubeconfig(self) -> Path:
        """Where the platform's kubeconfig is kept; it need not be there yet."""
        from platformlib.clusters import kubeconfig

        return kubeconfig.path(self.settings)

    def touch(self) -> "pd.DataFrame":
        """item, parameters, cluster: what is meant beside what is there. Raises WrongCluster."""
        return touch(self.settings, self.kubeconfig)

    def plan(self) -> "pd.DataFrame":
        """part, what: what would be installed."""
        return plan.plan(self.settings, self.scope)

    @cached_property
    def cluster(self) -> "Driver":
        """The driver of the distribution: facts, preflight, install, join, nodes, …"""
        from platformlib.clusters import driver

        return cast("Driver", self._timed(driver(self.settings, program=_program(self.settings)), MACHINES))

    @cached_property
    def kube(self) -> "Kube":
        """The cluster's API, by the platform's kubeconfig, which is fetched from the control plane if need be."""
        from platformlib.kube import Kube

        path = self.kubeconfig if self.kubeconfig.is_file() else self.cluster.kubeconfig()
        return Kube.connect(path, self.settings.cluster.context)

    @cached_property
    def layers(self) -> "Stack":
        """All layers of the platform, in their order."""
        from platformlib.layers import Stack

        return Stack(self.settings, self.kube)

    def layer(self, name: str) -> "Installed":
        """One layer: apply, wait, verify, diff, uninstall. One that is out of scope does nothing, and says so."""
        why = self.scope.why_not(name) or self._why_nothing()
        return cast("Installed", self._timed(scope.LeftOut(name, why) if why else self.layers[name], name))

    def verify(self, layer: str, *names: str) -> "pd.DataFrame":
        """Some checks of a layer, by their names. Raises CheckFailed."""
        from platformlib import checks

        return checks.verify(checks.run([check for check in self.layers[layer].checks() if check.name in names]))

    def _timed(self, inner: Any, part: str) -> Timed:
        return Timed(scope.Rehearsal(inner, part) if self.scope.dry_run else inner, part, self.history)

    def _why_nothing(self) -> str:
        """A dry run has nothing to look at where there is no cluster yet."""
        return f"{scope.DRY}: there is no cluster yet" if self.scope.dry_run and not self.kubeconfig.is_file() else ""

    @cached_property
    def members(self) -> "Members":
        """The machines as members of the cluster: login, wait, verify, claim, table."""
        from platformlib.targets.members import Members

        why = self._why_nothing()
        return cast("Members", self._timed(scope.LeftOut(MACHINES, why) if why else Members(self), MACHINES))

    @cached_property
    def pods(self) -> "Pods":
        """The cluster's pods: table, verify."""
        from platformlib.targets.pods import Pods

        return Pods(self.kube)

    @cached_property
    def security(self) -> "Security":
        """The rules: what is declared, who may do what, what reaches what, what was refused, what was found."""
        from platformlib.targets.security import Security

        return Security(self)

    @cached_property
    def marker(self) -> "Marker":
        """A line that a pod writes and Loki gives back: write, wait, verify, remove."""
        from platformlib.targets.marker import Marker

        return Marker(self)

    @cached_property
    def removal(self) -> "Removal":
        """Taking the platform down: inventory, confirm, wait, verify."""
        from platformlib.targets.removal import Removal

        return Removal(self.kube, self.settings.name)

    def machines(self, *, wanted: bool) -> "Driver":
        """The driver, or with `wanted=False` a stand-in that does nothing and says so."""
        left = scope.LeftOut(MACHINES, "`machines` is False")
        return self.cluster if wanted else cast("Driver", left)

    def status(self) -> "pd.DataFrame":
        """layer, kind, namespace, name, ready, seconds, detail: how far every object is."""
        return self.layers.status()

    def diff(self) -> "pd.DataFrame":
        """layer, kind, namespace, name, field, live, wanted: where the cluster differs from the parameters."""
        return self.layers.diff()

    def wait_for(self, source: "Source", *, timeout: float) -> "pd.DataFrame":
        """Until Prometheus or Loki answers queries. Raises WaitTimeout."""
        import pandas as pd

        server = self.prometheus if source == "prometheus" else self.loki
        look = lambda: pd.DataFrame({"source": [source], "ready": [server.ready()]})  # noqa: E731
        return until(look, lambda found: "" if found["ready"].all() else f"{source} is not ready", timeout)

    @cached_property
    def prometheus(self) -> "Prometheus":
        """Its metrics, through the API server."""
        from platformlib.components import proving

        return proving.prometheus(self.kube, self.settings)

    @cached_property
    def loki(self) -> "Loki":
        """Its logs, through the API server."""
        from platformlib.components import proving

        return proving.loki(self.kube, self.settings)

    @cached_property
    def queries(self) -> "Catalog":
        """The named queries, each a method: `target.queries.cpu_by_node(window="1h")`."""
        from platformlib.query import Catalog, Events

        why = scope.DRY if self.scope.dry_run else self.scope.why_not(NAMESPACE)
        if why:
            return cast("Catalog", scope.NoQueries(why))
        return Catalog(self.prometheus, self.loki, Events(lambda: self.kube), self.settings.components)

    def report(self) -> "pd.DataFrame":
        """part, step, rows, changed, seconds: what was done to the target in this session."""
        return report(self.history)


def _program(settings: Settings) -> Path | None:
    """The distribution's binary from the bundle, if it was built."""
    from platformlib.bundle import Bundle
    from platformlib.errors import BundleError

    try:
        return Bundle().binary("kubernetes") if settings.cluster.distribution == "kubeadm" else None
    except BundleError:
        return None
