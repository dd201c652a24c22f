"""The tables that drivers answer with."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.machines import Machine, each

if TYPE_CHECKING:
    import pandas as pd

Row = tuple[str, str, bool, float]
Planned = tuple[str, str, str]


def steps(machines: Iterable[Machine], step: str, work: Callable[[Machine], bool]) -> list[Row]:
    """Run one step on all machines at once; `work` tells whether it changed anything."""

    def timed(machine: Machine) -> Row:
        start = time.monotonic()
        changed = work(machine)
        return machine.name, step, changed, round(time.monotonic() - start, 1)

    return list(each(machines, timed).values())


def step_table(rows: Iterable[Row]) -> "pd.DataFrame":
    """node, step, changed, seconds."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=["node", "step", "changed", "seconds"])


def plan_table(rows: Iterable[Planned]) -> "pd.DataFrame":
    """node, step, action: what a dry run would do, as "would …" or "unchanged"."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=["node", "step", "action"])


def node_table(kubeconfig: Path, context: str | None) -> "pd.DataFrame":
    """The nodes as the API server knows them, one row each."""
    import pandas as pd

    from platformlib.kube import Kube

    columns = ["node", "role", "ready", "version", "address", "os", "kernel", "runtime", "pods_cidr", "created"]
    rows = [_row(node) for node in Kube.connect(kubeconfig, context).list("v1", "Node")]
    return pd.DataFrame(rows, columns=columns).assign(created=lambda table: pd.to_datetime(table["created"], utc=True))


def _row(node: dict[str, object]) -> tuple[object, ...]:
    from typing import Any, cast

    meta, spec, status = (cast("dict[str, Any]", node[key]) for key in ("metadata", "spec", "status"))
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", ())}
    addresses = {entry["type"]: entry["address"] for entry in status.get("addresses", ())}
    control = "node-role.kubernetes.io/control-plane" in meta.get("labels", {})
    info = status["nodeInfo"]
    return (
        meta["name"],
        "control-plane" if control else "worker",
        conditions.get("Ready") == "True",
        info["kubeletVersion"],
        addresses.get("InternalIP", ""),
        info["osImage"],
        info["kernelVersion"],
        info["containerRuntimeVersion"],
        spec.get("podCIDR", ""),
        meta["creationTimestamp"],
    )
