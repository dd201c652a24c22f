"""The network's rule, proven with two pods: closed at first, open for what is declared, and from which moment on."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib.security import probes, workloads
from platformlib.security.coverage import NAMESPACE, WITHIN, rooms
from platformlib.security.declared import NAME, Object
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

SETTLED = 20.0  # seconds for a change of policies to reach every machine
LOOK = 8  # seconds for which a new pod tries
TRIES = 3


def table(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """layer, rule, accepted, refused, words, ok: the rows of the network, as in `coverage.table`."""
    import pandas as pd

    with rooms(kube):
        server, client = (
            _pod(kube, name, script) for name, script in (("server", workloads.LISTEN), ("client", "sleep 600"))
        )
        closed = _until(lambda: _ask(settings, client, server), "refused")
        kube.apply(opening(), layer="security-examples")
        opened = _until(lambda: _ask(settings, client, server), "open")
        kube.uninstall("security-examples")
        again = _until(lambda: _ask(settings, client, server), "refused")
    ok = (closed, opened, again) == ("refused", "open", "refused")
    row = ["network", "default-deny", f"with a policy: {opened}", f"without: {closed}, {again}", "refused", ok]
    return pd.DataFrame([row], columns=["layer", "rule", "accepted", "refused", "words", "ok"])


def opening() -> list[Object]:
    """What lets `client` reach `server`, and nothing else."""
    ports = [{"port": workloads.PORT, "protocol": "TCP"}]
    specs = {
        "server": {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": _named("client")}], "ports": ports}],
        },
        "client": {"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": _named("server")}], "ports": ports}]},
    }
    return [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
         "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"podSelector": _named(name), **spec}}
        for name, spec in specs.items()
    ]  # fmt: skip


def _named(name: str) -> Object:
    return {"matchLabels": {NAME: name}}


def _pod(kube: "Kube", name: str, script: str, namespace: str = NAMESPACE) -> Object:
    made = workloads.pod(name, namespace, script)
    kube.api.create(made)
    kube.wait([made], timeout=WITHIN)
    live = kube.get("v1", "Pod", name, namespace)
    assert live is not None  # noqa: S101 - it was waited for
    return live


def _ask(settings: Settings, client: Object, server: Object) -> str:
    uid, node = probes.start(client)
    probe = probes.Probe(uid, node, server["status"]["podIP"], workloads.PORT)
    return probes.run(settings, [probe])[probe]


def _until(ask: Callable[[], str], wanted: str) -> str:
    """What is answered, as soon as it is the wanted or the patience is over."""
    deadline = time.monotonic() + SETTLED
    while (said := ask()) != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    return said


def enforcement(kube: "Kube") -> "pd.DataFrame":
    """try, seconds, passed: how long a new pod in a closed namespace could connect before it no longer could.

    The target lies in `default`, which is open. The pod itself tries as fast as it can from its first instruction on.
    """
    import pandas as pd

    target = workloads.pod("enforcement-target", "default", workloads.LISTEN)
    kube.delete(target)
    try:
        address = _pod(kube, "enforcement-target", workloads.LISTEN, "default")["status"]["podIP"]
        with rooms(kube):
            rows = [[number, *_leak(kube, f"newborn-{number}", address)] for number in range(TRIES)]
    finally:
        kube.delete(target)
    return pd.DataFrame(rows, columns=["try", "seconds", "passed"])


def _leak(kube: "Kube", name: str, address: str) -> tuple[float, int]:
    script = f"""
    start=$(cut -d' ' -f1 /proc/uptime); echo "start $start"
    while now=$(cut -d' ' -f1 /proc/uptime); [ "${{now%.*}}" -lt $((${{start%.*}} + {LOOK})) ]; do
      nc -w 1 {address} {workloads.PORT} </dev/null >/dev/null 2>&1 && echo "open $now"
    done; echo done"""
    made = workloads.pod(name, NAMESPACE, script)
    kube.api.create(made)
    deadline = time.monotonic() + WITHIN
    while (kube.get("v1", "Pod", name, NAMESPACE) or {}).get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    words = [line.split() for line in kube.logs(NAMESPACE, name, tail=100_000).splitlines()]
    start = next(float(each[1]) for each in words if each[0] == "start")
    opened = [float(each[1]) for each in words if each[0] == "open"]
    return round(max(opened) - start, 2) if opened else 0.0, len(opened)
