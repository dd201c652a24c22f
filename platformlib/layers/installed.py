"""One layer on one cluster: what it would be, how far it is, and how it comes and goes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib import checks
from platformlib.components.rendering import Object
from platformlib.errors import KubeError, PlatformError
from platformlib.kube import Progress
from platformlib.layers import volumes
from platformlib.layers.model import Layer, layers
from platformlib.layers.render import proofs, render
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

OnEvent = Callable[[Progress], None]
READY_WITHIN = 600.0  # seconds, from the first image to the last probe


class Installed:
    """A layer, bound to settings and a cluster. Every verb may be repeated."""

    def __init__(self, layer: Layer, settings: Settings, kube: "Kube") -> None:
        self.layer, self.settings, self.kube = layer, settings, kube
        self.name = layer.name

    def __repr__(self) -> str:
        return (
            f"Installed({self.name}: {', '.join(each.name for each in self.layer.wanted(self.settings)) or 'nothing'})"
        )

    def render(self) -> list[Object]:
        """Its objects, `setup/` first; none when the distribution brings all of it."""
        return render(self.layer, self.settings)

    def diff(self) -> "pd.DataFrame":
        """What applying would change, field by field: kind, namespace, name, field, live, wanted."""
        return self.kube.diff(self.render(), layer=self.name)

    def apply(
        self, *, dry_run: bool = False, take_ownership: bool = False, on_event: OnEvent | None = None
    ) -> "pd.DataFrame":
        """Apply its objects, then delete what it once had and has no more.

        Returns:
            kind, namespace, name, action: created, configured, unchanged, deleted. Nothing changes with `dry_run`.

        Raises:
            PlatformError: a layer that it needs is not installed.
            ApplyConflict: someone else owns a field (see `Kube.apply`). KubeError: the server refuses an object.
        """
        import pandas as pd

        self._has_its_needs()
        objects = self.render()
        applied = self.kube.apply(
            objects, layer=self.name, dry_run=dry_run, take_ownership=take_ownership, on_event=on_event
        )
        if dry_run:
            return applied
        return pd.concat([applied, self.kube.prune(self.name, objects, on_event=on_event)], ignore_index=True)

    def wait(self, timeout: float = READY_WITHIN, *, on_event: OnEvent | None = None) -> "pd.DataFrame":
        """Until every object is ready: kind, namespace, name, ready, seconds, detail. See `Kube.wait`."""
        return self.kube.wait(self.render(), timeout=timeout, on_event=on_event)

    def status(self) -> "pd.DataFrame":
        """How far every object is right now, in the columns of `wait`; never raises for what is not ready."""
        try:
            return self.wait(0)
        except KubeError as error:
            found: pd.DataFrame | None = getattr(error, "table", None)
            if found is None:
                raise
            return found

    def checks(self) -> list[checks.Check]:
        """What proves it."""
        return proofs(self.layer, self.settings, self.kube)

    def verify(self) -> "pd.DataFrame":
        """check, ok, expected, found, fix. Raises: CheckFailed, with the table."""
        return checks.verify(checks.run(self.checks()))

    def uninstall(self, *, timeout: float = 300, on_event: OnEvent | None = None) -> "pd.DataFrame":
        """Delete all that it applied, and the data in it: kind, namespace, name, action.

        Raises:
            PlatformError: another layer still needs it, or a volume of it is still in use.
            WaitTimeout: naming what holds an object.
        """
        self._is_not_needed()
        volumes.wait_released(self.kube, self.render(), timeout=timeout)
        return self.kube.uninstall(self.name, timeout=timeout, on_event=on_event)

    def _has_its_needs(self) -> None:
        for need in map(layers().__getitem__, self.layer.needs):
            if render(need, self.settings) and not self.kube.inventory(need.name):
                raise PlatformError(f"layer {self.name} needs {need.name}", fix=f"install {need.name} first")

    def _is_not_needed(self) -> None:
        dependents = [each.name for each in layers().values() if self.name in (*each.needs, *each.under)]
        if left := [name for name in dependents if self.kube.inventory(name)]:
            raise PlatformError(f"layer {self.name} is needed by {', '.join(left)}", fix="uninstall those first")
