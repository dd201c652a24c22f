"""Whether machines can run Kubernetes: rules over their facts, which change nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from platformlib.errors import PreflightFailed
from platformlib.machines.facts import Facts, GiB
from platformlib.settings import Node, Settings

if TYPE_CHECKING:
    import pandas as pd

CONTROL_PLANE_PORTS = frozenset({6443, 2379, 2380, 10257, 10259, 10250})
WORKER_PORTS = frozenset({10250})


@dataclass(frozen=True)
class Finding:
    """One result: what was expected, what was found, how to fix it."""

    check: str
    ok: bool
    expected: str
    found: str
    fix: str


Rule = Callable[[Node, Facts, Settings], Finding]


def hostname(node: Node, seen: Facts, _: Settings) -> Finding:
    fix = f"hostnamectl set-hostname {node.name}"
    return Finding("hostname", seen.hostname == node.name, node.name, seen.hostname, fix)


def architecture(_: Node, seen: Facts, __: Settings) -> Finding:
    known = ("x86_64", "aarch64")
    return Finding("architecture", seen.architecture in known, " or ".join(known), seen.architecture, "another machine")


def init(_: Node, seen: Facts, __: Settings) -> Finding:
    return Finding("init system", seen.init == "systemd", "systemd", seen.init, "boot the machine with systemd")


def cpus(node: Node, seen: Facts, _: Settings) -> Finding:
    least = 2 if node.role == "control-plane" else 1
    return Finding("CPUs", seen.cpus >= least, f"at least {least}", str(seen.cpus), "give the machine more CPUs")


def memory(node: Node, seen: Facts, _: Settings) -> Finding:
    least = 1.7 if node.role == "control-plane" else 0.9
    ok, found = seen.memory_limit >= least * GiB, f"{seen.memory_limit / GiB:.1f} GiB"
    return Finding("memory", ok, f"at least {least} GiB", found, "give the machine more memory")


def disk(_: Node, seen: Facts, __: Settings) -> Finding:
    found = f"{seen.disk_free / GiB:.1f} GiB free in /var/lib"
    return Finding("disk", seen.disk_free >= 4 * GiB, "at least 4 GiB free in /var/lib", found, "free some space there")


def swap(_: Node, seen: Facts, __: Settings) -> Finding:
    return Finding("swap", seen.swap == 0, "off", f"{seen.swap >> 20} MiB", "swapoff -a, and take it out of /etc/fstab")


def clock(_: Node, seen: Facts, __: Settings) -> Finding:
    ok = abs(seen.skew) <= 5  # noqa: PLR2004 - seconds; certificates and tokens stand more, logs do not
    return Finding("clock", ok, "within 5 s of this host's", f"{seen.skew:+.1f} s", "timedatectl set-ntp true")


def address(node: Node, seen: Facts, _: Settings) -> Finding:
    ok = str(node.address) in seen.addresses
    fix = "correct cluster.nodes, or the machine's network"
    return Finding("address", ok, str(node.address), ", ".join(seen.addresses), fix)


def routes(_: Node, seen: Facts, settings: Settings) -> Finding:
    """A member routes the pods of others itself, so the rule is for machines that are not one yet."""
    wanted = (settings.cluster.network.pods, settings.cluster.network.services)
    taken = [route for route in seen.routes if not seen.member and _overlaps(route, wanted)]
    expected = f"no route into {wanted[0]} or {wanted[1]}"
    return Finding("routes", not taken, expected, ", ".join(taken) or "none", "choose other cluster.network ranges")


def _overlaps(route: str, networks: tuple[IPv4Network, ...]) -> bool:
    return any(IPv4Network(route, strict=False).overlaps(network) for network in networks)


def ports(node: Node, seen: Facts, _: Settings) -> Finding:
    needed = CONTROL_PLANE_PORTS if node.role == "control-plane" else WORKER_PORTS
    taken = sorted(needed & seen.listening) if not seen.member else []
    found = ", ".join(map(str, taken)) or "none"
    return Finding("ports", not taken, "none in use by others", found, "stop what listens there: ss -ltnp")


def containerd(_: Node, seen: Facts, __: Settings) -> Finding:
    found = seen.containerd or "none"
    parts = found.lstrip("v").split(".")
    ok = parts[0].isdigit() and (int(parts[0]), int(parts[1])) >= (1, 6)
    return Finding("containerd", ok, "1.6 or later", found, "apt-get install containerd containernetworking-plugins")


def version(_: Node, seen: Facts, settings: Settings) -> Finding:
    """`install` never changes the version of a member: `upgrade` does, drained, with a snapshot before."""
    wanted = settings.cluster.version
    ok = "done" not in seen.marks or seen.kubelet in ("", wanted)
    fix = f"upgrade('{wanted}'), or put {seen.kubelet} into cluster.version"
    return Finding("version", ok, wanted, seen.kubelet or "none yet", fix)


def owner(_: Node, seen: Facts, __: Settings) -> Finding:
    """A cluster that somebody else made by kubeadm is nobody's to change."""
    ok = not seen.member or bool(seen.marks)
    fix = "use distribution existing; or, if nothing there is needed: kubeadm reset --force, on that machine"
    found = "none" if not seen.member else "platformlib's" if ok else "another installer's"
    return Finding("owner", ok, "no cluster, or platformlib's", found, fix)


SHARED: tuple[Rule, ...] = (hostname, architecture, init, cpus, disk, swap, clock, address, routes)
RULES: tuple[Rule, ...] = (*SHARED, memory, ports, containerd, version, owner)


def leftovers(settings: Settings, seen: Mapping[str, Facts]) -> Iterator[tuple[str, Finding]]:
    """A machine that is a member of something must be a member of this control plane's cluster."""
    first = [node.name for node in settings.cluster.nodes if node.role == "control-plane"]
    authorities = {seen[name].ca for name in first if seen[name].ca}
    for name, facts in seen.items():
        ok = not facts.ca or facts.ca in authorities
        fix = "if nothing there is needed: kubeadm reset --force, on that machine"
        yield name, Finding("leftovers", ok, "no other cluster's", "another cluster's CA" if not ok else "none", fix)


def preflight(settings: Settings, seen: Mapping[str, Facts]) -> "pd.DataFrame":
    """Every rule for every machine: node, check, ok, expected, found, fix.

    Raises:
        PreflightFailed: naming each machine and rule that does not hold; `.table` has them all.
    """
    findings = [(node.name, rule(node, seen[node.name], settings)) for node in settings.cluster.nodes for rule in RULES]
    return conclude([*findings, *leftovers(settings, seen)])


def conclude(findings: Iterable[tuple[str, Finding]]) -> "pd.DataFrame":
    """The table of all findings, or PreflightFailed with it."""
    import pandas as pd

    table = pd.DataFrame([{"node": name} | vars(finding) for name, finding in findings])
    bad = table[~table["ok"]]
    if len(bad):
        lines = [
            f"{row.node}: {row.check} is {row.found}, expected {row.expected}; {row.fix}" for row in bad.itertuples()
        ]
        raise PreflightFailed("\n  - ".join(["machines are not fit; nothing was changed", *lines]), table=table)
    return table
