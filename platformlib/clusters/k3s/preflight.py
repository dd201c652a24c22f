"""Whether machines are fit to carry k3s: the shared rules, and those that come with k3s."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from platformlib.clusters.k3s.config import datastore, servers
from platformlib.clusters.k3s.state import State
from platformlib.clusters.preflight import SHARED, Finding, conclude
from platformlib.machines.facts import Facts, GiB
from platformlib.settings import Node, Settings

if TYPE_CHECKING:
    import pandas as pd

TCP = {"control-plane": {6443, 6444, 10248, 10249, 10250, 10256, 10257, 10258, 10259}}
TCP["worker"] = {6444, 10248, 10249, 10250, 10256}
ETCD = {2379, 2380, 2381, 2382}
VXLAN = 8472
KERNEL = (4, 15)
Rule = Callable[[Node, Facts, State, Settings], Finding]


def memory(node: Node, seen: Facts, _: State, __: Settings) -> Finding:
    """k3s documents 2 GB for a server and 512 MB for an agent; a machine shows a little less than it has."""
    least = 1.7 if node.role == "control-plane" else 0.45
    found = f"{seen.memory / GiB:.1f} GiB"
    return Finding("memory", seen.memory >= least * GiB, f"at least {least} GiB", found, "give the machine more memory")


def system(_: Node, seen: Facts, __: State, ___: Settings) -> Finding:
    known = seen.os != "unknown"
    return Finding("system", known, "Linux with /etc/os-release", seen.os, "install a supported distribution")


def kernel(_: Node, seen: Facts, __: State, ___: Settings) -> Finding:
    version = tuple(int(part) for part in seen.kernel.split("-")[0].split(".")[:2] if part.isdigit())
    wanted = ".".join(map(str, KERNEL))
    return Finding("kernel", version >= KERNEL, f"at least {wanted}", seen.kernel, "upgrade the distribution")


def modules(_: Node, seen: Facts, found: State, __: Settings) -> Finding:
    """A container cannot ask its host's kernel for modules; there the first pod tells."""
    lacking = () if seen.in_container else found.lacking
    fix = "apt-get install linux-modules-extra-$(uname -r), or your distribution's package of kernel modules"
    return Finding("modules", not lacking, "overlay, br_netfilter, vxlan", ", ".join(lacking) or "all", fix)


def cgroups(_: Node, seen: Facts, found: State, __: Settings) -> Finding:
    lacking = {"cpu", "memory", "pids"} - found.controllers
    shown = f"v{seen.cgroup}, " + (f"without {', '.join(sorted(lacking))}" if lacking else "all there")
    fix = "add cgroup_memory=1 cgroup_enable=memory to the kernel's command line and restart"
    return Finding("control groups", not lacking, "cpu, memory, pids", shown, fix)


def ports(node: Node, _: Facts, found: State, settings: Settings) -> Finding:
    """What k3s itself listens on is no conflict."""
    tcp = TCP[node.role] | (ETCD if node.role == "control-plane" and datastore(settings) == "etcd" else set())
    wanted = {(port, "tcp") for port in tcp} | {(VXLAN, "udp")}
    others = [(port, kind, who) for port, kind, who in found.sockets if (port, kind) in wanted]
    taken = sorted({f"{port}/{kind} by {who}" for port, kind, who in others if not found.active})
    return Finding("ports", not taken, "none in use by others", ", ".join(taken) or "none", "stop what listens there")


def firewall(_: Node, __: Facts, found: State, settings: Settings) -> Finding:
    network = settings.cluster.network
    both = f"{network.pods} and {network.services}"
    commands = {
        "ufw": f"ufw allow 6443/tcp; ufw allow from {network.nodes}; ufw allow from {network.pods}; "
        f"ufw allow from {network.services}",
        "firewalld": f"firewall-cmd --permanent --zone=trusted --add-source={network.nodes} "
        f"--add-source={network.pods} --add-source={network.services}; firewall-cmd --reload",
    }
    shown = found.firewall if found.open else f"{found.firewall} without {both}"
    return Finding(
        "firewall", found.open, f"none, or one that lets {both} pass", shown, commands.get(found.firewall, "")
    )


def release(_: Node, __: Facts, found: State, settings: Settings) -> Finding:
    """`install` never changes the version of what runs: that is `upgrade`'s work, with its snapshot."""
    wanted = settings.cluster.version
    ok = not found.member or found.version in ("", wanted)
    fix = f"upgrade('{wanted}'), or put {found.version} into cluster.version"
    return Finding("version", ok, wanted, found.version or "none yet", fix)


def owner(node: Node, seen: Facts, found: State, settings: Settings) -> Finding:
    """Neither another installer's Kubernetes, nor another platform's, nor a server that was made an agent."""
    ours = found.owner == settings.name
    foreign = {
        "a cluster of kubeadm; kubeadm reset --force, if nothing of it is needed": seen.member,
        f"the platform {found.owner}; uninstall it with its own parameters": found.owner and not ours,
        "k3s of another installer; k3s-uninstall.sh, if nothing of it is needed": found.traces and not found.owner,
        "the data of a server; uninstall that node, then join it again": node.role == "worker" and found.datastore,
    }
    shown, _, fix = next((text for text, there in foreign.items() if there), "").partition("; ")
    own = settings.name if ours else "nothing"
    return Finding("owner", not shown, f"nothing, or {settings.name}", shown or own, fix)


def encryption(node: Node, _: Facts, found: State, settings: Settings) -> Finding:
    """k3s cannot turn encryption of secrets on (or off) by its configuration once a server has data."""
    wanted = settings.cluster.k3s.hardening
    ok = node.role == "worker" or not found.datastore or found.encrypted == wanted
    fix = f"cluster.k3s.hardening: {str(found.encrypted).lower()}, or a new cluster"
    expected = "encrypted" if wanted else "not encrypted"
    shown = ("encrypted" if found.encrypted else "not encrypted") if found.datastore else "no data yet"
    return Finding("secrets", ok, expected if found.datastore else "any", shown, fix)


OWN: tuple[Rule, ...] = (
    system, kernel, modules, memory, cgroups, ports, firewall, release, owner, encryption,
)  # fmt: skip


def identities(settings: Settings, found: Mapping[str, State]) -> Iterator[tuple[str, Finding]]:
    """Cloned machines share an id, and with it addresses and leases."""
    seen = Counter(state.machine_id for state in found.values() if state.machine_id)
    fix = "rm /etc/machine-id; systemd-machine-id-setup; restart the machine"
    for node in settings.cluster.nodes:
        shared = seen[found[node.name].machine_id] > 1
        yield node.name, Finding("machine id", not shared, "its own", "a clone's" if shared else "its own", fix)


def one_cluster(settings: Settings, found: Mapping[str, State]) -> Iterator[tuple[str, Finding]]:
    """Every member must belong to the cluster whose data the first server with data has."""
    held = [found[node.name].ca for node in servers(settings) if found[node.name].datastore]
    for node in settings.cluster.nodes:
        state = found[node.name]
        ok = not state.member or not state.ca or state.ca == next(iter(held), None)
        shown = "none" if not state.member else "this one" if ok else "another, or one whose servers are gone"
        fix = "restore a server's snapshot, or uninstall that node and let it join again"
        yield node.name, Finding("cluster", ok, "none, or that of the first server", shown, fix)


def preflight(settings: Settings, seen: Mapping[str, Facts], found: Mapping[str, State]) -> "pd.DataFrame":
    """Every rule for every machine: node, check, ok, expected, found, fix.

    Raises:
        PreflightFailed: naming each machine and rule that does not hold; `.table` has them all.
    """
    findings: list[tuple[str, Finding]] = []
    for node in settings.cluster.nodes:
        facts, state = seen[node.name], found[node.name]
        joined = replace(facts, member=state.member)
        findings += [(node.name, rule(node, joined, settings)) for rule in SHARED]
        findings += [(node.name, rule(node, facts, state, settings)) for rule in OWN]
    return conclude([*findings, *identities(settings, found), *one_cluster(settings, found)])
