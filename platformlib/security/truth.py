"""The connectivity truth table: what the policies in the cluster mean, against what really passes."""

from typing import TYPE_CHECKING, Any

from platformlib.checks import Check, Found
from platformlib.security import probes, semantics
from platformlib.security.declared import Object
from platformlib.security.pod_security import app
from platformlib.security.probes import Probe
from platformlib.security.semantics import Pod
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

COLUMNS = ("source", "source_node", "to", "to_node", "port", "protocol", "expected", "found", "ok", "by")
OPEN = "open"


def table(kube: "Kube", settings: Settings, namespaces: list[str] | None = None) -> "pd.DataFrame":
    """Every running pod to every port on which a pod listens: expected and found, and the policies that decide.

    A port counts as listening when the pod reaches it from inside itself; other declared ports are left out.

    Returns:
        source, source_node, to, to_node, port, protocol, expected and found (bool), ok, by.
    """
    import pandas as pd

    objects = {f"{o['metadata']['namespace']}/{o['metadata']['name']}": o for o in kube.list("v1", "Pod")}
    pods = [pod for pod in semantics.pods(objects.values()) if namespaces is None or pod.namespace in namespaces]
    ends = _listening(settings, pods, objects)
    ways = [(pod, end) for pod in pods for end in ends if not pod.host or not end[0].host]
    found = probes.run(settings, [_probe(objects[str(pod)], *end) for pod, end in ways])
    world = semantics.world(kube)
    rows = [_row(world, pod, end, found[_probe(objects[str(pod)], *end)]) for pod, end in ways]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _listening(settings: Settings, pods: list[Pod], objects: dict[str, Object]) -> list[tuple[Pod, int, str]]:
    declared = [(pod, port, protocol) for pod in pods for port, protocol in ports(objects[str(pod)])]
    found = probes.run(settings, [_probe(objects[str(end[0])], *end) for end in declared])
    return [end for end in declared if found[_probe(objects[str(end[0])], *end)] == OPEN]


def ports(obj: Object) -> list[tuple[int, str]]:
    """The ports that a pod's containers declare; of UDP only DNS's, since no other answers a stranger."""
    given = [
        (int(port["containerPort"]), str(port.get("protocol", "TCP")))
        for container in obj["spec"]["containers"]
        for port in container.get("ports") or []
    ]
    return [(port, protocol) for port, protocol in dict.fromkeys(given) if protocol == "TCP" or port == 53]  # noqa: PLR2004


def _probe(source: Object, to: Pod, port: int, protocol: str) -> Probe:
    uid, node = probes.start(source)
    return Probe(uid, node, to.address, port, protocol)


def _row(world: semantics.World, pod: Pod, end: tuple[Pod, int, str], found: str) -> list[Any]:
    to, port, protocol = end
    said = world.verdict(pod, to, port, protocol)
    passes = found == OPEN
    ends = [str(pod), pod.node, str(to), to.node, port, protocol]
    return [*ends, said.passes, passes, said.passes == passes, "; ".join(said.by) if said.passes == passes else found]


def check(table: "pd.DataFrame", name: str = "connectivity") -> Check:
    """Every connection is as the policies say, and both answers occur."""
    expected = (
        "each connection passes or fails as the cluster's own policies say; both occur, within and across machines"
    )
    fix = "the row's `by` names the policies; is the network's engine running on both machines?"
    return Check(name, expected, fix, lambda: _judged(table))


def _judged(table: "pd.DataFrame") -> Found:
    wrong = table[~table["ok"]]
    crossing = table[table["source_node"] != table["to_node"]]
    words = f"{len(table)} connections, {len(crossing)} across machines, {int(table['found'].sum())} open"
    if len(wrong):
        lines = [
            f"{row.source} → {row.to}:{row.port} {'passes' if row.found else 'fails'}" for row in wrong.itertuples()
        ]
        return False, f"{len(wrong)} of {words} differ: {'; '.join(lines[:5])}"
    return table["found"].nunique() == 2 and len(crossing) > 0, words  # noqa: PLR2004


def by_app(table: "pd.DataFrame", kube: "Kube") -> "pd.DataFrame":
    """The table as a matrix of apps: 1 open, 0 closed, between when pods differ, negative when not as expected."""
    names = {
        f"{o['metadata']['namespace']}/{o['metadata']['name']}": f"{o['metadata']['namespace']}/{app(o)}"
        for o in kube.list("v1", "Pod")
    }
    short = table.assign(source=table["source"].map(names), to=table["to"].map(names) + ":" + table["port"].astype(str))
    whole = short.assign(value=short["found"].astype(float).where(short["ok"], -1.0))
    matrix: pd.DataFrame = whole.pivot_table(index="source", columns="to", values="value", aggfunc="mean")
    return matrix
