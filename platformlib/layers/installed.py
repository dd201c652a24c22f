"""The layers of one platform on its cluster: plan, apply, wait, verify, diff, uninstall."""

import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from platformlib import checks
from platformlib.components.rendering import Object
from platformlib.errors import ClusterError, KubeError, PlatformError
from platformlib.kube import reference
from platformlib.kube.objects import LAYER_LABEL
from platformlib.layers import data
from platformlib.layers.model import Layer, chosen, layer, layers
from platformlib.layers.render import proofs, render, stages
from platformlib.layers.steps import Steps, changes
from platformlib.security.observe import observed
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

READY_WITHIN = 600.0  # seconds, from the first image to the last probe
LOCK = "layers"  # the lease that apply, prune and uninstall of a platform hold
NO_CLUSTER = "there is no cluster yet"
ACTIONS = {"created": "created", "configured": "configured", "unchanged": "unchanged", "pruned": "deleted"}
COLUMNS = ("layer", "objects", *ACTIONS, "seconds")


class Installed:
    """A layer, bound to settings and a cluster. Every verb may be repeated.

    Args:
        kube: the cluster; one with `dry_run` makes every verb a dry run. None: a dry run without a cluster.
        steps: receives the time and result of each verb.
        ahead: checks that were begun before their turn.
        skipped: why the layer is not worked on; then every verb but `uninstall` does nothing and returns the reason.
    """

    def __init__(
        self,
        layer: Layer,
        settings: Settings,
        kube: "Kube | None",
        *,
        steps: Steps | None = None,
        ahead: checks.Ahead | None = None,
        skipped: str = "",
    ) -> None:
        self.layer, self.settings, self.skipped = layer, settings, skipped
        self.name = layer.name
        self._kube, self._steps, self._ahead = kube, steps or Steps(), ahead or checks.Ahead()

    def __repr__(self) -> str:
        return f"Installed({self.name}: {self.summary})"

    @property
    def kube(self) -> "Kube":
        """Its cluster. Raises: ClusterError in a dry run that has none."""
        if self._kube is None:
            raise ClusterError(NO_CLUSTER, fix="run the installation without dry_run")
        return self._kube

    @property
    def dry_run(self) -> bool:
        """Whether its verbs only say what they would do."""
        return self._kube is None or self._kube.dry_run

    @property
    def summary(self) -> str:
        """Its components, or why it is not worked on."""
        parts = ", ".join(each.name for each in self.layer.wanted(self.settings))
        return self.skipped or parts or "nothing to install"

    @cached_property
    def _observed(self) -> Settings:
        """The settings, with what was read from a cluster that others installed."""
        if self._kube is None or not self.layer.wanted(self.settings):
            return self.settings
        return observed(self.settings, self._kube)

    def render(self) -> list[Object]:
        """Its objects, in the order of applying; none when the distribution brings all of it."""
        return render(self.layer, self._observed)

    def diff(self) -> "pd.DataFrame":
        """What applying would change, field by field; changes nothing.

        Returns:
            Columns: kind, namespace, name, field, live, wanted.
        """
        objects = self.render()
        if self._kube is None:
            return _rows(objects, field="", live="(absent)", wanted="(present)")
        # Without a layer, nothing counts as surplus: a layer that renders nothing is not pruned either.
        return self._kube.diff(objects, layer=self.name if objects else None, expected=self._earlier())

    def apply(self, *, take_ownership: bool = False) -> "pd.DataFrame":
        """Apply its objects, then delete what it once applied and no longer renders.

        A dry run plans both. Objects of earlier layers count as present there.

        Returns:
            Columns: kind, namespace, name, action (created, configured, unchanged, deleted, kept …).

        Raises:
            PlatformError: a layer that it needs is not installed.
            WrongCluster: the cluster is not claimed by this platform.
            ApplyConflict: someone else owns a field (see `Kube.apply`). KubeError: the server refuses an object.
        """
        with self._steps.step(self.name, "apply") as step:
            if self.skipped:
                return step.done(self._skip("apply"))
            if self._kube is None:
                return step.done(_rows(self.render(), action="created"))
            return step.done(self._applied(self._kube, step.tell, take_ownership=take_ownership))

    def _applied(self, kube: "Kube", tell: Callable[[object], None], *, take_ownership: bool) -> "pd.DataFrame":
        import pandas as pd

        objects = self.render()
        how: dict[str, Any] = {
            "layer": self.name,
            "adopt": frozenset(self.settings.adopt),
            "take_ownership": take_ownership,
        }
        if not kube.dry_run:
            self._require_needs()
        with kube.lock(LOCK):
            if kube.dry_run:
                applied = [kube.apply(objects, expected=self._earlier(), on_event=tell, **how)]
            else:
                applied = self._in_stages(kube, objects, tell, how)
            pruned = self._pruned(kube, objects, tell)
        done = pd.concat([each for each in (*applied, pruned) if len(each)] or applied, ignore_index=True)
        if changes(done):
            self._ahead.drop()
        return done

    def _in_stages(
        self, kube: "Kube", objects: list[Object], tell: Callable[[object], None], how: dict[str, Any]
    ) -> "list[pd.DataFrame]":
        """Apply a stage, and wait until what it changed is ready before the next. All stages are planned first."""
        first, *later = stages(self.layer, self._observed, objects)
        if later:
            kube.apply([obj for part in later for obj in part], expected=objects, dry_run=True, **how)
        applied = [kube.apply(first, on_event=tell, **how)]
        for before, part in zip([first, *later], later, strict=False):
            if changes(applied[-1]):
                kube.wait(before, timeout=READY_WITHIN, on_event=tell)
            applied.append(kube.apply(part, on_event=tell, **how))
        return applied

    def _earlier(self) -> list[Object]:
        """The objects of the layers before it: a plan may rely on them before they are applied."""
        if self.name not in self.settings.layers:
            return []
        return [obj for each in chosen(self.settings.layers, self.name)[:-1] for obj in render(each, self._observed)]

    def _pruned(self, kube: "Kube", objects: list[Object], tell: Callable[[object], None]) -> "pd.DataFrame":
        """Delete what is no longer rendered. A layer that renders nothing at all is only removed by `uninstall`."""
        import pandas as pd

        if not objects:
            rows = [ref.row | {"action": f"kept, {self.name} renders nothing"} for ref in kube.inventory(self.name)]
            return pd.DataFrame(rows, columns=["kind", "namespace", "name", "action"])
        return kube.prune(self.name, objects, on_event=tell)

    def wait(self, timeout: float = READY_WITHIN) -> "pd.DataFrame":
        """Wait until every object is ready; a dry run looks once.

        Returns:
            Columns: kind, namespace, name, ready, seconds, detail.

        Raises:
            WaitTimeout, TerminalCondition: see `Kube.wait`.
        """
        with self._steps.step(self.name, "wait") as step:
            if self.skipped:
                return step.done(self._skip("wait"))
            if self.dry_run:
                return step.done(self.status())
            return step.done(self.kube.wait(self.render(), timeout=timeout, on_event=step.tell))

    def status(self) -> "pd.DataFrame":
        """How far every object is now, in the columns of `wait`; never raises for what is not ready."""
        if self._kube is None:
            return _rows(self.render(), ready=False, seconds=0.0, detail=NO_CLUSTER)
        try:
            return self._kube.wait(self.render(), timeout=0)
        except KubeError as error:
            found: pd.DataFrame | None = getattr(error, "table", None)
            if found is None:
                raise
            return found

    def checks(self) -> list[checks.Check]:
        """What proves it."""
        return proofs(self.layer, self.settings, self.kube)

    def verify(self) -> "pd.DataFrame":
        """Run its checks. A dry run asks nothing, since checks work by use: they make pods and claims.

        Returns:
            Columns: check, ok, expected, found, fix.

        Raises:
            CheckFailed: with the table.
        """
        with self._steps.step(self.name, "verify") as step:
            if self.skipped or self.dry_run:
                return step.done(self._skip("verify"))
            return step.done(checks.verify(self._ahead.run(self.name, self.checks(), step.tell)))

    def require_installed(self) -> None:
        """Refuse a name that is neither in the cluster nor in the parameters. Raises: PlatformError.

        A layer of the parameters may be removed twice.
        """
        if self.name in self.settings.layers or self.kube.inventory(self.name):
            return
        there = ", ".join(inventories(self.kube)) or "none"
        raise PlatformError(
            f"layer {self.name} is not installed, and not among the platform's layers", fix=f"installed: {there}"
        )

    def uninstall(self, *, delete_data: tuple[str, ...] = (), timeout: float = 300) -> "pd.DataFrame":
        """Delete what it applied, by its inventory in the cluster: it need not be in the parameters any more.

        Claims, namespaces with content of others, and definitions with instances of others are kept unless
        `delete_data` names them; `data.table` lists them.

        Returns:
            Columns: kind, namespace, name, action.

        Raises:
            PlatformError: it is not installed, or another layer needs it.
            WrongCluster: the cluster is not claimed by this platform.
            WaitTimeout: names what holds an object.
        """
        with self._steps.step(self.name, "uninstall") as step:
            kube = self.kube
            self.require_installed()
            self._require_unneeded()
            with kube.lock(LOCK):
                return step.done(
                    data.uninstall(kube, self.name, delete_data=delete_data, timeout=timeout, on_event=step.tell)
                )

    def _skip(self, verb: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame({"part": [self.name], "step": [verb], "skipped": [self.skipped or "dry run"]})

    def _require_needs(self) -> None:
        for need in map(layers().__getitem__, self.layer.needs):
            if render(need, self.settings) and not self.kube.inventory(need.name):
                raise PlatformError(f"layer {self.name} needs {need.name}", fix=f"install {need.name} first")

    def _require_unneeded(self) -> None:
        dependents = [each.name for each in layers().values() if self.name in (*each.needs, *each.under)]
        if left := [name for name in dependents if self.kube.inventory(name)]:
            raise PlatformError(f"layer {self.name} is needed by {', '.join(left)}", fix="uninstall those first")


def inventories(kube: "Kube") -> list[str]:
    """The names of the layers that have an inventory in the cluster, in the order of uninstalling.

    What is no layer of this version comes first: probes of a killed run, layers of other versions.
    """
    maps = kube.list("v1", "ConfigMap", "kube-system", label_selector=LAYER_LABEL)
    found = {each["metadata"]["labels"][LAYER_LABEL] for each in maps}
    return [*sorted(found - set(layers())), *(name for name in reversed(layers()) if name in found)]


def _rows(objects: list[Object], **columns: object) -> "pd.DataFrame":
    """kind, namespace, name of objects, and the same values for all in further columns."""
    import pandas as pd

    names = ["kind", "namespace", "name", *columns]
    return pd.DataFrame([reference(obj).row | columns for obj in objects], columns=names)


class Stack:
    """The layers of a platform, bottom up. `stack["storage"]` is one of them.

    Args:
        until: the last layer that is worked on; default: all that the settings name.
    """

    def __init__(
        self, settings: Settings, kube: "Kube | None", *, until: str | None = None, steps: Steps | None = None
    ) -> None:
        self.settings, self.kube = settings, kube
        self._until, self._steps, self._ahead = until, steps or Steps(), checks.Ahead()
        self.names = [each.name for each in chosen(settings.layers, until)]

    def __repr__(self) -> str:
        return f"Stack({', '.join(self.names)})"

    def __iter__(self) -> Iterator[Installed]:
        """Those that are worked on."""
        return (self[name] for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Installed:
        """A layer by its name; one that is not worked on has `skipped` set.

        Raises:
            PlatformError: neither this version nor the cluster knows the layer.
        """
        skipped = self._why_not(name)
        return Installed(
            self._layer(name), self.settings, self.kube, steps=self._steps, ahead=self._ahead, skipped=skipped
        )

    def _layer(self, name: str) -> Layer:
        if name not in layers() and self.kube is not None and name in inventories(self.kube):
            return Layer(name, "installed by another version", ())
        return layer(name)

    def _why_not(self, name: str) -> str:
        if name in self.names:
            return ""
        if name in self.settings.layers:
            return f"it comes after `{self._until}`"
        return "it is not among the platform's layers"

    def install(self, *, take_ownership: bool = False, timeout: float = READY_WITHIN) -> "pd.DataFrame":
        """Apply, prune and wait, layer by layer. A second run changes nothing.

        Args:
            timeout: seconds until a layer must be ready.

        Returns:
            Columns: layer, objects, created, configured, unchanged, pruned, seconds; one row for each layer.

        Raises:
            PlatformError, and what `Installed.apply` and `Installed.wait` raise; layers below stay as they are.
        """
        import pandas as pd

        rows = []
        for each in self:
            start = time.monotonic()
            done = each.apply(take_ownership=take_ownership)
            each.wait(timeout)
            counts = {column: int((done["action"] == action).sum()) for column, action in ACTIONS.items()}
            objects = counts["created"] + counts["configured"] + counts["unchanged"]
            seconds = round(time.monotonic() - start, 1)
            rows.append({"layer": each.name, "objects": objects, **counts, "seconds": seconds})
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def prove_ahead(self) -> "pd.DataFrame":
        """Begin the proofs of layers that are installed and need no order; `verify` of a layer takes their results.

        A change that `apply` of any layer makes afterwards discards them.

        Returns:
            Columns: layer, check.
        """
        import pandas as pd

        rows = []
        for each in self:
            if not each.dry_run and each.kube.inventory(each.name):
                found = each.checks()
                self._ahead.begin(each.name, found)
                rows += [[each.name, check.name] for check in found if check.anytime]
        return pd.DataFrame(rows, columns=["layer", "check"])

    def diff(self) -> "pd.DataFrame":
        """layer, kind, namespace, name, field, live, wanted: what installing would change. Changes nothing."""
        return _labelled([(each.name, each.diff()) for each in self])

    def status(self) -> "pd.DataFrame":
        """layer, kind, namespace, name, ready, seconds, detail: how far every object is."""
        return _labelled([(each.name, each.status()) for each in self])

    def verify(self) -> "pd.DataFrame":
        """check, ok, expected, found, fix, over all layers. Raises: CheckFailed, with the table."""
        return checks.verify(checks.run([check for each in self for check in each.checks()]))

    def uninstall(self, *, delete_data: tuple[str, ...] = (), timeout: float = 300) -> "pd.DataFrame":
        """Delete all layers that are in the cluster, top down: layer, kind, namespace, name, action.

        See `Installed.uninstall` for what is kept.
        """
        if self.kube is None:
            raise ClusterError(NO_CLUSTER)
        names = inventories(self.kube)
        return _labelled([(name, self[name].uninstall(delete_data=delete_data, timeout=timeout)) for name in names])


def _labelled(tables: "list[tuple[str, pd.DataFrame]]") -> "pd.DataFrame":
    """One table, with the layer's name in front of each row."""
    import pandas as pd

    filled = [table.assign(layer=name) for name, table in tables if len(table)]
    if not filled:
        return pd.DataFrame(columns=["layer", *(tables[0][1].columns if tables else ())])
    whole: pd.DataFrame = pd.concat(filled, ignore_index=True)
    return whole[["layer", *(name for name in whole.columns if name != "layer")]]
