"""Taking a platform down: what is there, what of it is data, whether it is meant, whether it is gone."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from platformlib.checks import Result, verify
from platformlib.errors import RunbookError
from platformlib.layers import data
from platformlib.layers.installed import inventories
from platformlib.targets.waiting import wait_until

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube
    from platformlib.targets.target import Target


class Removal:
    """The removal of a target, by what its cluster says was applied: the parameters may have changed since."""

    def __init__(self, target: "Target") -> None:
        self.target = target

    def inventory(self) -> "pd.DataFrame":
        """layer, objects, kinds: what was applied to the cluster and has not been removed."""
        return inventory(self.target.kube)

    def data(self, delete_data: Sequence[str] = ()) -> "pd.DataFrame":
        """What of the cluster is data, and whether it stays.

        Args:
            delete_data: what is to go, by its name in the column `delete_data`.

        Returns:
            Columns: kind, namespace, name, delete_data, objects, claims, bytes, fate (deleted, kept, absent).
        """
        return data.table(self.target.kube, delete_data)

    def confirm(self, name: str, *, delete_data: Sequence[str] = (), machines: bool = False) -> "pd.DataFrame":
        """Go on only if the platform was named, and nothing would be lost that was not named.

        Returns:
            The table of `data`.

        Raises:
            RunbookError: another name, or `machines` would take data with them that `delete_data` does not name.
        """
        if name != self.target.settings.name:
            fix = f'confirm="{self.target.settings.name}"'
            raise RunbookError("nothing was removed: the removal is not confirmed", fix=fix)
        found = self.data(delete_data)
        if machines and (lost := sorted(found.loc[found["fate"] == data.KEPT, "delete_data"])):
            fix = f"back it up and name it in delete_data, or leave the machines: {', '.join(lost)}"
            raise RunbookError("nothing was removed: the cluster keeps data that would go with its machines", fix=fix)
        return found

    def uninstall(self, *, delete_data: Sequence[str] = (), timeout: float) -> "pd.DataFrame":
        """Remove every layer that the cluster has, the last one first.

        Args:
            delete_data: names of data that go as well, as in the table `data`.
            timeout: seconds that the removal of each layer may take.

        Returns:
            Columns: layer, kind, namespace, name, action.
        """
        return self.target.layers.uninstall(delete_data=tuple(delete_data), timeout=timeout)

    def wait(self, *, timeout: float) -> "pd.DataFrame":
        """Wait until no layer has an object. Raises WaitTimeout, naming those that have."""
        return wait_until(self.inventory, _left, timeout)

    def verify(self) -> "pd.DataFrame":
        """No layer has an object. Raises CheckFailed."""
        return verify(list(checks(self.inventory())))


def inventory(kube: "Kube") -> "pd.DataFrame":
    """layer, objects, kinds, in the order of removal."""
    import pandas as pd

    held = {name: kube.inventory(name) for name in inventories(kube)}
    rows = [(name, len(objects), _kinds(Counter(each.kind for each in objects))) for name, objects in held.items()]
    return pd.DataFrame(rows, columns=["layer", "objects", "kinds"])


def _kinds(count: Counter[str]) -> str:
    return ", ".join(f"{kind} {number}" if number > 1 else kind for kind, number in sorted(count.items()))


def _left(found: "pd.DataFrame") -> str:
    rows = found[found["objects"] > 0]
    return "; ".join(f"{layer}: {kinds}" for layer, kinds in zip(rows["layer"], rows["kinds"], strict=True))


def checks(found: "pd.DataFrame") -> Iterator[Result]:
    """Nothing is left, layer by layer."""
    left = found[found["objects"] > 0]
    names = ", ".join(left["layer"])
    yield Result("no layer is left", left.empty, "none", names or "none", "run this notebook again")
    for layer, objects, kinds in left.itertuples(index=False):
        yield Result(f"layer {layer} is gone", False, "no objects", f"{objects}: {kinds}", "run this notebook again")
