"""What the parameters say of a platform, beside what its cluster says."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformlib.errors import KubeError
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

RETRY_TIMEOUT = 4.0  # seconds: whoever binds a target wants to know soon that it does not answer
ABSENT = "—"


def card(settings: Settings, kubeconfig: Path) -> "pd.DataFrame":
    """The platform, its distribution, API server, versions and nodes, with what the cluster says beside each.

    A cluster that does not exist yet, or does not answer, is a row of the table: an installation starts like that.

    Returns:
        Columns: item, parameters, cluster.

    Raises:
        WrongCluster: the cluster carries another platform, or another distribution.
    """
    import pandas as pd

    found = dict.fromkeys(("platform", "distribution", "version", "server", "nodes", "took"), ABSENT)
    if not kubeconfig.is_file():
        found["server"] = f"none yet: no kubeconfig at {kubeconfig}"
    else:
        try:
            found |= ask(settings, kubeconfig)
        except KubeError as error:
            found["server"] = str(error).splitlines()[0]
    nodes = ", ".join(node.name for node in settings.cluster.nodes) or ABSENT
    rows = [
        ("platform", settings.name, found["platform"]),
        ("distribution", settings.cluster.distribution, found["distribution"]),
        ("Kubernetes", settings.cluster.version, found["version"]),
        ("API server", ABSENT, found["server"]),
        ("nodes", nodes, found["nodes"]),
        ("layers", ", ".join(settings.layers), ABSENT),
        ("asked", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", found["took"]),
    ]
    return pd.DataFrame(rows, columns=["item", "parameters", "cluster"])


def ask(settings: Settings, kubeconfig: Path) -> dict[str, str]:
    """What the cluster says, item by item.

    Raises:
        WrongCluster: it carries another platform, or another distribution. KubeError: it does not answer.
    """
    from platformlib.kube import Kube, identity
    from platformlib.kube.credentials import Credentials
    from platformlib.kube.session import Session

    credentials = Credentials.load(kubeconfig, settings.cluster.context)
    kube = Kube(Session(credentials, retry_timeout=RETRY_TIMEOUT, dry_run=True))
    start = time.monotonic()
    found = kube.identity()
    # A mark of an older version is a name alone; the next claim completes it.
    if found is None or found.uid or found.name != settings.name:
        identity.verify(kube.api, settings.name, settings.cluster.distribution, unclaimed=True)
    nodes = kube.list("v1", "Node")
    return {
        "platform": found.name if found else "not claimed yet",
        "distribution": (found and found.distribution) or ABSENT,
        "version": kube.version(),
        "server": kube.server,
        "nodes": f"{sum(map(_ready, nodes))} of {len(nodes)} ready",
        "took": f"{(time.monotonic() - start) * 1000:.0f} ms",
    }


def _ready(node: dict[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
