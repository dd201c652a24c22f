"""All layers of a platform on its cluster, in their order."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from platformlib import checks
from platformlib.layers.installed import READY_WITHIN, Installed, OnEvent
from platformlib.layers.model import chosen, layer
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

ACTIONS = {"created": "created", "configured": "configured", "unchanged": "unchanged", "pruned": "deleted"}
COLUMNS = ("layer", "objects", *ACTIONS, "seconds")


class Stack:
    """The layers that the settings name. `stack["storage"]` is one of them; iterating goes bottom up."""

    def __init__(self, settings: Settings, kube: "Kube") -> None:
        self.settings, self.kube = settings, kube
        self._installed = [Installed(each, settings, kube) for each in chosen(settings.layers)]

    def __repr__(self) -> str:
        return f"Stack({', '.join(each.name for each in self)})"

    def __iter__(self) -> Iterator[Installed]:
        return iter(self._installed)

    def __len__(self) -> int:
        return len(self._installed)

    def __getitem__(self, name: str) -> Installed:
        """Raises: PlatformError for a layer that does not exist or is not part of the platform."""
        return next(each for each in self._until(name) if each.layer is layer(name))

    def _until(self, name: str | None) -> list[Installed]:
        names = [each.name for each in chosen(self.settings.layers, name)]
        return [each for each in self if each.name in names]

    def install(
        self,
        until: str | None = None,
        *,
        dry_run: bool = False,
        take_ownership: bool = False,
        timeout: float = READY_WITHIN,
        on_event: OnEvent | None = None,
    ) -> "pd.DataFrame":
        """Apply, prune and wait, layer by layer, up to and including `until`. A second run changes nothing.

        Args:
            timeout: seconds until a layer must be ready.

        Returns:
            layer, objects, created, configured, unchanged, pruned, seconds: a row each layer.

        Raises:
            PlatformError, and what `Installed.apply` and `Installed.wait` raise; layers below stay as they are.
        """
        import pandas as pd

        how = {"dry_run": dry_run, "take_ownership": take_ownership, "on_event": on_event}
        rows = [_row(each, timeout, how) for each in self._until(until)]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def diff(self, until: str | None = None) -> "pd.DataFrame":
        """layer, kind, namespace, name, field, live, wanted: what installing would change. Changes nothing."""
        return self._each("diff", until)

    def status(self, until: str | None = None) -> "pd.DataFrame":
        """layer, kind, namespace, name, ready, seconds, detail: how far every object is."""
        return self._each("status", until)

    def _each(self, verb: str, until: str | None) -> "pd.DataFrame":
        import pandas as pd

        tables = [(each.name, getattr(each, verb)()) for each in self._until(until)]
        filled = [table.assign(layer=name) for name, table in tables if len(table)] or [tables[0][1].assign(layer="")]
        whole: pd.DataFrame = pd.concat(filled, ignore_index=True)
        return whole[["layer", *(name for name in whole.columns if name != "layer")]]

    def verify(self, until: str | None = None) -> "pd.DataFrame":
        """check, ok, expected, found, fix, over all layers. Raises: CheckFailed, with the table."""
        return checks.verify(checks.run([check for each in self._until(until) for check in each.checks()]))

    def uninstall(self, *, on_event: OnEvent | None = None) -> "pd.DataFrame":
        """Delete all layers, top down, and the data in them: layer, kind, namespace, name, action."""
        import pandas as pd

        tables = [each.uninstall(on_event=on_event).assign(layer=each.name) for each in reversed(self._installed)]
        return pd.concat(tables, ignore_index=True)


def _row(each: Installed, timeout: float, how: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    done = each.apply(**how)
    if not how["dry_run"]:
        each.wait(timeout, on_event=how["on_event"])
    counts = {column: int((done["action"] == action).sum()) for column, action in ACTIONS.items()}
    objects = len(done) - int(done["action"].isin(["deleted", "absent", "kept"]).sum())
    return {"layer": each.name, "objects": objects, **counts, "seconds": round(time.monotonic() - start, 1)}
