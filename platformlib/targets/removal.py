"""Taking a platform down: what is there, whether it is meant, whether it is gone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformlib.checks import Result, verify
from platformlib.errors import RunbookError
from platformlib.layers.model import layers
from platformlib.targets.patience import until

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube


@dataclass(frozen=True)
class Removal:
    """The removal of the platform `name`."""

    kube: "Kube"
    name: str

    def inventory(self) -> "pd.DataFrame":
        """layer, objects, kinds: what was applied to the cluster and has not been removed."""
        return inventory(self.kube)

    def confirm(self, name: str) -> "pd.DataFrame":
        """Go on only if the platform was named. Raises RunbookError."""
        import pandas as pd

        if name != self.name:
            raise RunbookError("nothing was removed: the removal is not confirmed", fix=f'confirm="{self.name}"')
        return pd.DataFrame({"platform": [self.name], "confirmed": [True]})

    def wait(self, *, timeout: float) -> "pd.DataFrame":
        """Until no layer has an object. Raises WaitTimeout, naming those that have."""
        return until(self.inventory, _left, timeout)

    def verify(self) -> "pd.DataFrame":
        """No layer has an object. Raises CheckFailed."""
        return verify(list(checks(self.inventory())))


def inventory(kube: "Kube") -> "pd.DataFrame":
    """layer, objects, kinds."""
    import pandas as pd

    held = {name: kube.inventory(name) for name in layers()}
    rows = [(name, len(objects), _kinds(Counter(each.kind for each in objects))) for name, objects in held.items()]
    return pd.DataFrame(rows, columns=["layer", "objects", "kinds"])


def _kinds(count: Counter[str]) -> str:
    return ", ".join(f"{kind} {number}" if number > 1 else kind for kind, number in sorted(count.items()))


def _left(found: "pd.DataFrame") -> str:
    rows = found[found["objects"] > 0]
    return "; ".join(f"{layer}: {kinds}" for layer, kinds in zip(rows["layer"], rows["kinds"], strict=True))


def checks(found: "pd.DataFrame") -> Iterator[Result]:
    """One for each layer."""
    for layer, objects, kinds in found.itertuples(index=False):
        yield Result(f"layer {layer} is gone", objects == 0, "no objects", str(kinds) or "no objects", "run this again")
