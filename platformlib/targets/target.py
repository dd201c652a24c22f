"""One platform and every tool for it: what `pl.bind` gives a notebook."""

import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from platformlib.errors import BundleError, Fault, PlatformError, SettingsError, WrongCluster
from platformlib.layers import Stack, chosen
from platformlib.layers.installed import NO_CLUSTER
from platformlib.layers.steps import Steps
from platformlib.settings import Settings, load
from platformlib.settings.locate import resolve
from platformlib.targets.card import card
from platformlib.targets.waiting import wait_until

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube
    from platformlib.layers import Installed
    from platformlib.query import Catalog, Loki, Prometheus
    from platformlib.targets.machines import Machines, Members
    from platformlib.targets.marker import Marker
    from platformlib.targets.pods import Pods
    from platformlib.targets.removal import Removal
    from platformlib.targets.security import Security

Source = Literal["prometheus", "loki"]
KUBERNETES = ("kube-system", "default")


def bind(platform: object, *, until: str | None = None, dry_run: bool = False) -> "Target":
    """Validate a platform, ask its cluster who it is, and show both side by side. The first step of every notebook.

    Args:
        platform: path of a parameters file, or the value of its `platform` key.
        until: the last layer to work on; None or an empty text: all that the parameters name.
        dry_run: say what would change, and change nothing.

    Raises:
        ParameterError: a parameter of the notebook that calls this has another type than its annotation.
        SettingsError: with every fault of the platform's parameters.
        WrongCluster: the kubeconfig leads to a cluster that carries another platform.
    """
    import pandas as pd
    from IPython.display import display

    from platformlib import composition, parameters, plots

    parameters.verify(sys._getframe(1).f_globals)

    if not isinstance(platform, str | Path | Mapping):
        raise SettingsError(
            [Fault("platform", type(platform).__name__, "a path, or a mapping as in a parameters file")]
        )
    settings = load(platform if isinstance(platform, Mapping) else resolve(platform))
    target = Target(settings, until=until or None, dry_run=dry_run, steps=Steps(plots.watch().say))
    plots.show_tables()
    pd.set_option("display.html.use_mathjax", False)  # a dollar in a log line is no formula
    # The first colours: a node and a namespace look alike in all notebooks of a platform.
    plots.declare([*(node.name for node in settings.cluster.nodes), *KUBERNETES, *composition.namespaces(settings)])
    display(target.touch())  # type: ignore[no-untyped-call]
    return target


class Target:
    """A validated platform. Its tools are made when they are first used.

    Args:
        until: the last layer that is worked on; default: all that the settings name.
        dry_run: the handles of the cluster and of its machines cannot write.
        steps: receives each step that is done; default: a silent record.
    """

    def __init__(
        self, settings: Settings, *, until: str | None = None, dry_run: bool = False, steps: Steps | None = None
    ) -> None:
        from platformlib import lab

        chosen(settings.layers, until)
        self.settings, self.until, self.dry_run = lab.resolve(settings), until, dry_run
        self.steps = steps or Steps()

    def __repr__(self) -> str:
        cluster = self.settings.cluster
        return f"Target({self.settings.name}: {cluster.distribution}, {len(cluster.nodes)} nodes)"

    @property
    def kubeconfig(self) -> Path:
        """Where the platform's kubeconfig is kept; it need not exist yet."""
        from platformlib.clusters import kubeconfig

        return kubeconfig.path(self.settings)

    def touch(self) -> "pd.DataFrame":
        """item, parameters, cluster: what is meant beside what is there. Raises WrongCluster."""
        return card(self.settings, self.kubeconfig)

    def plan(self) -> "pd.DataFrame":
        """part, what: machines, networks, images and layers that would be installed. Asks nobody."""
        import pandas as pd

        cluster, stack = self.settings.cluster, Stack(self.settings, None, until=self.until)
        network = cluster.network
        rows = [("cluster", f"{cluster.distribution} {cluster.version}")]
        rows += [(f"node {node.name}", f"{node.role}, {node.address}, by {node.connection}") for node in cluster.nodes]
        rows += [
            ("networks", f"nodes {network.nodes}, pods {network.pods}, services {network.services}"),
            ("images from", str(self.settings.registry.mirror or "their upstream registries")),
        ]
        rows += [(f"layer {name}", stack[name].summary) for name in self.settings.layers]
        return pd.DataFrame(rows, columns=["part", "what"])

    @cached_property
    def cluster(self) -> "Machines":
        """The machines: facts, preflight, install, join, upgrade, nodes, …"""
        return self.machines(wanted=True)

    def machines(self, *, wanted: bool) -> "Machines":
        """The machines; with `wanted=False` their verbs do nothing, and say so."""
        from platformlib.clusters import driver
        from platformlib.targets.machines import Machines

        own = driver(self.settings, program=_program(self.settings), dry_run=self.dry_run)
        return Machines(self, own, skipped="" if wanted else "`machines` is False")

    @cached_property
    def kube(self) -> "Kube":
        """The cluster's API. It writes only to a cluster that this platform has claimed, and never in a dry run.

        The kubeconfig is fetched from the control plane if none is kept.

        Raises:
            ClusterError, NodeError: there is no kubeconfig, and none can be fetched.
        """
        from platformlib.kube import Kube

        path = self.kubeconfig if self.kubeconfig.is_file() else self.cluster.kubeconfig()
        kube = Kube.connect(path, self.settings.cluster.context, dry_run=self.dry_run)
        kube.require(self.settings.name, self.settings.cluster.distribution)
        return kube

    @cached_property
    def reached(self) -> "Kube | None":
        """The cluster's API; None in a dry run whose cluster does not exist or does not answer.

        Raises:
            WrongCluster: it carries another platform.
        """
        if not self.dry_run:
            return self.kube
        try:
            from platformlib.targets.card import ask

            ask(self.settings, self.kubeconfig if self.kubeconfig.is_file() else self.cluster.kubeconfig())
        except WrongCluster:
            raise
        except PlatformError:
            return None
        return self.kube

    @cached_property
    def layers(self) -> Stack:
        """The layers that are worked on, in their order."""
        return Stack(self.settings, self.reached, until=self.until, steps=self.steps)

    def layer(self, name: str) -> "Installed":
        """One layer: apply, wait, verify, diff, uninstall. One that is not worked on does nothing, and says so."""
        return self.layers[name]

    def verify(self, layer: str, *names: str) -> "pd.DataFrame":
        """Some checks of a layer, by their names. Raises CheckFailed."""
        from platformlib import checks

        return checks.verify(checks.run([check for check in self.layers[layer].checks() if check.name in names]))

    def install(self, *, timeout: float = 600) -> "pd.DataFrame":
        """Build the platform as notebooks/install.ipynb does: machines, then layer by layer apply, wait, verify.

        Args:
            timeout: seconds that each wait may take.

        Returns:
            Columns: part, step, rows, changed, seconds; a row for each step.
        """
        self.cluster.preflight()
        self.cluster.install()
        self.cluster.join()
        self.members.claim()
        self.members.wait(timeout=timeout)
        self.members.verify()
        self.layers.prove_ahead()
        for layer in self.layers:
            layer.apply()
            layer.wait(timeout)
            layer.verify()
        return self.report()

    @cached_property
    def members(self) -> "Members":
        """The machines as nodes of the cluster: login, wait, verify, claim, table."""
        from platformlib.targets.machines import Members

        return Members(self)

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
        """Taking the platform down: inventory, data, confirm, uninstall, wait, verify."""
        from platformlib.targets.removal import Removal

        return Removal(self)

    def status(self) -> "pd.DataFrame":
        """layer, kind, namespace, name, ready, seconds, detail: how far every object is."""
        return self.layers.status()

    def diff(self) -> "pd.DataFrame":
        """layer, kind, namespace, name, field, live, wanted: where the cluster differs from the parameters."""
        return self.layers.diff()

    def wait_for(self, source: Source, *, timeout: float) -> "pd.DataFrame":
        """Wait until Prometheus or Loki answers queries. Raises WaitTimeout."""
        import pandas as pd

        server = self.prometheus if source == "prometheus" else self.loki

        def look() -> "pd.DataFrame":
            return pd.DataFrame({"source": [source], "ready": [server.ready()]})

        return wait_until(look, lambda found: "" if found["ready"].all() else f"{source} is not ready", timeout)

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
        """The named queries, each a method: `target.queries.cpu_by_node(window="1h")`.

        Where no layer that keeps metrics or logs is worked on, they answer with an empty frame that says why.
        """
        from platformlib.query import Catalog, Events

        own = self.settings.components
        if absent := self._no_answers():
            return Catalog(components=own, absent=absent)
        return Catalog(self.prometheus, self.loki, Events(lambda: self.kube), own)

    def _no_answers(self) -> str:
        """Why named queries have nobody to ask; nothing if they have."""
        if self.dry_run:
            return "dry run" if self.reached else f"dry run: {NO_CLUSTER}"
        layers = chosen(self.settings.layers, self.until)
        kept = {what for layer in layers for each in layer.wanted(self.settings) for what in each.provides}
        if kept & {"metrics", "logs"}:
            return ""
        return "metrics and logs are kept by a layer that is not worked on"

    def report(self) -> "pd.DataFrame":
        """part, step, rows, changed, seconds: what was done to the target in this session."""
        return self.steps.report()


def _program(settings: Settings) -> Path | None:
    """The distribution's binary from the bundle, if it was built."""
    from platformlib.bundle import Bundle

    try:
        return Bundle().binary("kubernetes") if settings.cluster.distribution == "kubeadm" else None
    except BundleError:
        return None
