"""The network's rule, proven by two pods that try to connect: closed at first, open for what is declared.

The pods try by themselves, so the proof needs no access to the machines.
"""

import time
from typing import TYPE_CHECKING

from platformlib.security import examples
from platformlib.security.coverage import COLUMNS, WITHIN
from platformlib.security.declared import NAME, Object

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

LAYER = "security-examples"
SETTLED = 20.0  # seconds for a change of policies to reach every node
TRIED_FOR = 8  # seconds for which a new pod tries
TRIES = 3
# Both scripts read their target from the environment; a line for each try.
ASK = """
while true; do
  nc -w 2 "$TARGET" "$PORT" </dev/null >/dev/null 2>&1 && echo open || echo refused
  sleep 0.3
done"""
NEW = """
start=$(cut -d' ' -f1 /proc/uptime); echo "start $start"
while now=$(cut -d' ' -f1 /proc/uptime); [ "${now%.*}" -lt $((${start%.*} + SECONDS_OF_TRYING)) ]; do
  nc -w 1 "$TARGET" "$PORT" </dev/null >/dev/null 2>&1 && echo "open $now"
done; echo done""".replace("SECONDS_OF_TRYING", str(TRIED_FOR))


def table(kube: "Kube") -> "pd.DataFrame":
    """Let `client` connect to `server`: without a policy, with one that opens the way, and without it again.

    Returns:
        One row in the columns of `coverage.table`.
    """
    import pandas as pd

    with examples.namespaces(kube):
        server = examples.started(kube, examples.pod("server", examples.CLOSED, examples.LISTEN), timeout=WITHIN)
        client = examples.pod("client", examples.CLOSED, ASK, env=_target(server))
        examples.started(kube, client, timeout=WITHIN)
        closed = _settled(kube, "refused")
        kube.apply(opening(), layer=LAYER)
        opened = _settled(kube, "open")
        kube.uninstall(LAYER)
        again = _settled(kube, "refused")
    ok = (closed, opened, again) == ("refused", "open", "refused")
    row = ["network", "default-deny", f"with a policy: {opened}", f"without: {closed}, {again}", "refused", ok]
    return pd.DataFrame([row], columns=list(COLUMNS))


def opening() -> list[Object]:
    """The policies that let `client` reach `server`, and nothing else."""
    ports = [{"port": examples.PORT, "protocol": "TCP"}]
    specs = {
        "server": {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": _named("client")}], "ports": ports}],
        },
        "client": {"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": _named("server")}], "ports": ports}]},
    }
    return [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
         "metadata": {"name": name, "namespace": examples.CLOSED}, "spec": {"podSelector": _named(name), **spec}}
        for name, spec in specs.items()
    ]  # fmt: skip


def _named(name: str) -> Object:
    return {"matchLabels": {NAME: name}}


def _target(server: Object) -> dict[str, str]:
    return {"TARGET": str(server["status"]["podIP"]), "PORT": str(examples.PORT)}


def _settled(kube: "Kube", wanted: str) -> str:
    """The result of the last try, once it is as wanted or the time is over."""
    return examples.until(
        lambda: kube.logs(examples.CLOSED, "client", tail=1).strip(), lambda said: said == wanted, SETTLED
    )


def enforcement(kube: "Kube") -> "pd.DataFrame":
    """How long a new pod in a closed namespace can connect before its policies are in force.

    The target is in an open namespace. The pod tries as fast as it can from its first instruction on.

    Returns:
        Columns: try, seconds (from the start to the last connection), passed (connections).
    """
    import pandas as pd

    with examples.namespaces(kube):
        target = examples.started(kube, examples.pod("target", examples.OPEN, examples.LISTEN), timeout=WITHIN)
        rows = [[number, *_leak(kube, f"new-{number}", _target(target))] for number in range(TRIES)]
    return pd.DataFrame(rows, columns=["try", "seconds", "passed"])


def _leak(kube: "Kube", name: str, target: dict[str, str]) -> tuple[float, int]:
    kube.api.create(examples.pod(name, examples.CLOSED, NEW, env=target))
    deadline = time.monotonic() + WITHIN
    while _phase(kube, name) not in ("Succeeded", "Failed") and time.monotonic() < deadline:
        time.sleep(1)
    words = [line.split() for line in kube.logs(examples.CLOSED, name, tail=100_000).splitlines()]
    start = next(float(each[1]) for each in words if each[0] == "start")
    opened = [float(each[1]) for each in words if each[0] == "open"]
    return round(max(opened) - start, 2) if opened else 0.0, len(opened)


def _phase(kube: "Kube", name: str) -> str:
    pod = kube.get("v1", "Pod", name, examples.CLOSED) or {}
    return str((pod.get("status") or {}).get("phase", ""))
