"""One platform and every tool for it."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from platformlib.settings import Settings
from platformlib.target.steps import Step, Timed, report
from platformlib.target.touch import touch

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.clusters import Driver
    from platformlib.kube import Kube
    from platformlib.query import Catalog, Loki, Prometheus

NAMESPACE = "observability"


class Target:
    """A validated platform. Its tools are made when they are first used, so that naming a target costs nothing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.history: list[Step] = []

    def __repr__(self) -> str:
        return f"Target({self.settings.name}: {self.settings.cluster.distribution}, {len(self.settings.cluster.nodes)} nodes)"

    @property
    def kubeconfig(self) -> Path:
        """Where the platform's kubeconfig is kept; it need not be there yet."""
        from platformlib.clusters import kubeconfig

        return kubeconfig.path(self.settings)

    def touch(self) -> "pd.DataFrame":
        """item, parameters, cluster: what is meant beside what is there. Raises WrongCluster."""
        return touch(self.settings, self.kubeconfig)

    @cached_property
    def cluster(self) -> "Driver":
        """The driver of the distribution: facts, preflight, install, join, nodes, …"""
        from platformlib.clusters import driver

        return cast("Driver", Timed(driver(self.settings, program=_program(self.settings)), "machines", self.history))

    @cached_property
    def kube(self) -> "Kube":
        """The cluster's API, by the platform's kubeconfig, which is fetched from the control plane if need be."""
        from platformlib.kube import Kube

        path = self.kubeconfig if self.kubeconfig.is_file() else self.cluster.kubeconfig()
        return Kube.connect(path, self.settings.cluster.context)

    @cached_property
    def prometheus(self) -> "Prometheus":
        """Its metrics, through the API server."""
        from platformlib.query import Prometheus, connect

        return Prometheus(
            transport=connect(lambda: self.kube.service(NAMESPACE, "prometheus", 9090), name="prometheus")
        )

    @cached_property
    def loki(self) -> "Loki":
        """Its logs, through the API server."""
        from platformlib.query import Loki, connect

        return Loki(transport=connect(lambda: self.kube.service(NAMESPACE, "loki", 3100), name="loki"))

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
