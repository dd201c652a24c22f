"""The target's name card: what the parameters say beside what the cluster says."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.errors import KubeError, WrongCluster
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 4.0  # seconds: whoever binds a target wants to know soon that it does not answer
ABSENT = "—"
Card = list[tuple[str, str, str]]


def touch(settings: Settings, kubeconfig: Path) -> "pd.DataFrame":
    """item, parameters, cluster: the platform, its distribution, API server, versions and nodes.

    A cluster that is not there yet, or does not answer, is told in the table: an installation starts like that.

    Raises:
        WrongCluster: the cluster carries another platform.
    """
    import pandas as pd

    found = _found(settings, kubeconfig)
    nodes = ", ".join(node.name for node in settings.cluster.nodes) or ABSENT
    card: Card = [
        ("platform", settings.name, found["platform"]),
        ("distribution", settings.cluster.distribution, ABSENT),
        ("Kubernetes", settings.cluster.version, found["version"]),
        ("API server", ABSENT, found["server"]),
        ("nodes", nodes, found["nodes"]),
        ("layers", ", ".join(settings.layers), ABSENT),
        ("touched", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", found["took"]),
    ]
    return pd.DataFrame(card, columns=["item", "parameters", "cluster"])


def _found(settings: Settings, kubeconfig: Path) -> dict[str, str]:
    nothing = dict.fromkeys(("platform", "version", "server", "nodes", "took"), ABSENT)
    if not kubeconfig.is_file():
        return nothing | {"server": f"none yet: no kubeconfig at {kubeconfig}"}
    try:
        return nothing | _asked(settings, kubeconfig)
    except WrongCluster:
        raise
    except KubeError as error:
        return nothing | {"server": str(error).splitlines()[0]}


def _asked(settings: Settings, kubeconfig: Path) -> dict[str, str]:
    from platformlib.kube import Kube
    from platformlib.kube.credentials import Credentials
    from platformlib.kube.session import Session

    kube = Kube(Session(Credentials.load(kubeconfig, settings.cluster.context), retry_timeout=PATIENCE))
    start = time.monotonic()
    found = kube.identity()
    name = found.name if found else None
    if name not in {None, settings.name}:
        fix = f"give the kubeconfig of {settings.name}, or the parameters of {name}"
        raise WrongCluster(
            f"{kube.server} ({kubeconfig}) carries the platform {name!r}, not {settings.name!r}", fix=fix
        )
    nodes = kube.list("v1", "Node")
    return {
        "platform": name or "not claimed yet",
        "version": kube.version(),
        "server": kube.server,
        "nodes": f"{sum(map(_ready, nodes))} of {len(nodes)} ready",
        "took": f"{(time.monotonic() - start) * 1000:.0f} ms",
    }


def _ready(node: dict[str, object]) -> bool:
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
