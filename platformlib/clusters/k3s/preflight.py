"""Whether machines are fit to carry k3s: shared rules, those of k3s, and whether they reach each other."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from platformlib.clusters import preflight as shared
from platformlib.clusters.k3s.config import datastore, servers
from platformlib.clusters.k3s.service import again
from platformlib.clusters.k3s.state import State
from platformlib.clusters.preflight import Finding, conclude
from platformlib.machines import Machine, each
from platformlib.machines.facts import Facts, GiB
from platformlib.settings import Node, Settings

if TYPE_CHECKING:
    import pandas as pd

TCP = {"control-plane": {6443, 6444, 10248, 10249, 10250, 10256, 10257, 10258, 10259}}
TCP["worker"] = {6444, 10248, 10249, 10250, 10256}
ETCD = {2379, 2380, 2381, 2382}
VXLAN, WIREGUARD, WIREGUARD6, SPEGEL = 8472, 51820, 51821, 5001
KERNEL = (4, 15)
CLOCKS = 1.0
CONTROLLERS = frozenset({"cpu", "cpuset", "memory", "pids"})
Rule = Callable[[Node, Facts, State, Settings], Finding]
Flow = tuple[str, str, int, str]


def memory(node: Node, seen: Facts, _: State, __: Settings) -> Finding:
    """k3s documents 2 GB for a server and 512 MB for an agent; a machine shows a little less than it has."""
    least = 1.7 if node.role == "control-plane" else 0.45
    found = f"{seen.memory / GiB:.1f} GiB"
    return Finding("memory", seen.memory >= least * GiB, f"at least {least} GiB", found, "give the machine more memory")


def system(_: Node, seen: Facts, __: State, ___: Settings) -> Finding:
    known = seen.os != "unknown"
    return Finding("system", known, "Linux with /etc/os-release", seen.os, "install a supported distribution")


def architecture(_: Node, seen: Facts, __: State, ___: Settings) -> Finding:
    known = ("x86_64", "aarch64", "armv7l")
    return Finding("architecture", seen.architecture in known, " or ".join(known), seen.architecture, "another machine")


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
    """k3s refuses to start without cpuset and memory; Raspberry Pi OS boots without the latter."""
    lacking = CONTROLLERS - found.controllers
    shown = f"v{seen.cgroup}, " + (f"without {', '.join(sorted(lacking))}" if lacking else "all there")
    where = found.cmdline or "the kernel's command line"
    fix = f"add `cgroup_memory=1 cgroup_enable=memory cgroup_enable=cpuset` to the one line of {where} and restart"
    return Finding("control groups", not lacking, ", ".join(sorted(CONTROLLERS)), shown, fix)


def forwarding(_: Node, __: Facts, found: State, ___: Settings) -> Finding:
    """k3s turns IP forwarding on when it starts; a file that turns it off cuts pods off at the next boot."""
    shown = ", ".join(found.forwarding) or "nothing turns it off"
    fix = "remove `net.ipv4.ip_forward = 0` there, then sysctl --system"
    return Finding("IP forwarding", not found.forwarding, "no file that turns it off", shown, fix)


def ports(node: Node, _: Facts, found: State, settings: Settings) -> Finding:
    """What k3s itself listens on is no conflict."""
    tcp = TCP[node.role] | (ETCD if node.role == "control-plane" and datastore(settings) == "etcd" else set())
    tcp |= {SPEGEL} if settings.cluster.k3s.embedded_registry else set()
    wanted = {(port, "tcp") for port in tcp} | {(VXLAN, "udp")}
    others = [(port, kind, who) for port, kind, who in found.sockets if (port, kind) in wanted]
    taken = sorted({f"{port}/{kind} by {who}" for port, kind, who in others if not found.active})
    return Finding("ports", not taken, "none in use by others", ", ".join(taken) or "none", "stop what listens there")


def firewall(_: Node, __: Facts, found: State, settings: Settings) -> Finding:
    """Traffic of pods and services crosses the machine; whether machines reach each other is tried by `blocked`."""
    network = settings.cluster.network
    both = f"{network.pods} and {network.services}"
    commands = {
        "ufw": f"ufw allow 6443/tcp; ufw allow from {network.nodes}; ufw allow from {network.pods}; "
        f"ufw allow from {network.services}",
        "firewalld": f"firewall-cmd --permanent --zone=trusted --add-source={network.nodes} "
        f"--add-source={network.pods} --add-source={network.services}; firewall-cmd --reload",
        "nftables": f"accept saddr and daddr of {both} and saddr {network.nodes} in each input and forward chain whose "
        "policy is drop; nft list ruleset shows them",
    }
    shown = found.firewall if found.open else f"{found.firewall} without {both}"
    return Finding(
        "firewall", found.open, f"none, or one that lets {both} pass", shown, commands.get(found.firewall, "")
    )


def selinux(_: Node, __: Facts, found: State, ___: Settings) -> Finding:
    """Without its policy, an enforcing machine refuses to start k3s from /usr/local/bin, or its pods."""
    ok = found.selinux != "enforcing" or found.policy
    fix = (
        "dnf install -y container-selinux k3s-selinux (from rpm.rancher.io/k3s/stable/common, or your own mirror of "
        "it); on a transactional or ostree system restart afterwards"
    )
    shown = f"{found.selinux or 'none'}{', policy k3s installed' if found.policy else ''}"
    return Finding("SELinux", ok, "not enforcing, or with the policy k3s-selinux", shown, fix)


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
        f"k3s of another installer ({', '.join(found.traces)}); k3s-uninstall.sh, if nothing of it is needed": (
            found.traces and not found.owner
        ),
        "the data of a server; uninstall that node, then join it again": node.role == "worker" and found.datastore,
    }
    shown, _, fix = next((text for text, there in foreign.items() if there), "").partition("; ")
    own = settings.name if ours else "nothing"
    return Finding("owner", not shown, f"nothing, or {settings.name}", shown or own, fix)


def held(_: Node, __: Facts, found: State, ___: Settings) -> Finding:
    """A restore or a migration that was interrupted: the data here is in between, and k3s must not start on it."""
    return Finding("interrupted", not found.hold, "nothing", found.hold or "nothing", again(found.hold))


def encryption(node: Node, _: Facts, found: State, settings: Settings) -> Finding:
    """The driver does not turn encryption of secrets on or off once a server has data."""
    wanted = settings.cluster.k3s.hardening
    ok = node.role == "worker" or not found.datastore or found.encrypted == wanted
    fix = f"cluster.k3s.hardening: {str(found.encrypted).lower()}, or a new cluster"
    expected = "encrypted" if wanted else "not encrypted"
    shown = ("encrypted" if found.encrypted else "not encrypted") if found.datastore else "no data yet"
    return Finding("secrets", ok, expected if found.datastore else "any", shown, fix)


def database(node: Node, _: Facts, found: State, settings: Settings) -> Finding:
    """k3s migrates SQLite to etcd at whichever restart comes next: so it is a step of its own, or refused."""
    wanted = datastore(settings)
    there = "etcd" if found.etcd else "sqlite" if found.sqlite else ""
    ok = node.role == "worker" or there in ("", wanted)
    fix = "migrate(): a snapshot, the move to etcd, a proof" if wanted == "etcd" else "cluster.k3s.datastore: etcd"
    return Finding("datastore", ok, wanted if there else "any", there or "no data yet", fix)


def images(_: Node, __: Facts, found: State, settings: Settings) -> Finding:
    """A registries.yaml that somebody else wrote is kept where the parameters say nothing, and never overwritten."""
    foreign = found.registries == "foreign"
    ok = not (foreign and _has_registries(settings))
    fix = "move its content to cluster.k3s.registries and delete the file, or leave registries out of the parameters"
    expected = "none, or platformlib's" if _has_registries(settings) else "any"
    return Finding("registries.yaml", ok, expected, found.registries, fix)


def _has_registries(settings: Settings) -> bool:
    k3s = settings.cluster.k3s
    return bool(
        settings.registry.mirror or k3s.embedded_registry or k3s.registries.mirrors or k3s.registries.access
    )  # fmt: skip


# Of the shared rules, k3s needs neither the hostname (it has node-name) nor swap turned off (it allows it).
SHARED = (shared.init, shared.cpus, shared.disk, shared.clock, shared.address, shared.routes)
OWN: tuple[Rule, ...] = (
    system, architecture, kernel, modules, memory, cgroups, forwarding, ports, firewall, selinux, release, owner, held,
    encryption, database, images,
)  # fmt: skip


def identities(found: Mapping[str, State]) -> Iterator[tuple[str, Finding]]:
    """Cloned machines share an id, and with it addresses and leases."""
    seen = Counter(state.machine_id for state in found.values() if state.machine_id)
    fix = "rm /etc/machine-id; systemd-machine-id-setup; restart the machine"
    for name, state in found.items():
        shared_id = seen[state.machine_id] > 1
        yield name, Finding("machine id", not shared_id, "its own", "a clone's" if shared_id else "its own", fix)


def one_cluster(settings: Settings, found: Mapping[str, State]) -> Iterator[tuple[str, Finding]]:
    """Every member must belong to the cluster whose data the first server with data has."""
    held_by = [found[node.name].ca for node in servers(settings) if node.name in found and found[node.name].datastore]
    for name, state in found.items():
        ok = not state.member or not state.ca or state.ca == next(iter(held_by), None)
        shown = "none" if not state.member else "this one" if ok else "another, or one whose servers are gone"
        fix = "restore a server's snapshot, or uninstall that node and let it join again"
        yield name, Finding("cluster", ok, "none, or that of the first server", shown, fix)


def clocks(seen: Mapping[str, Facts]) -> Iterator[tuple[str, Finding]]:
    """etcd's members and certificates compare times among machines, so their difference counts, not this host's."""
    right = min((facts.skew for facts in seen.values()), key=abs, default=0.0)
    for name, facts in seen.items():
        apart = facts.skew - right
        expected, shown = f"within {CLOCKS:g} s of the other machines'", f"{apart:+.1f} s"
        yield name, Finding("clocks", abs(apart) <= CLOCKS, expected, shown, "timedatectl set-ntp true")


# $@ in threes: address, port, protocol. A port that nothing listens on answers `refused`, which is a way that is open;
# silence is a firewall that drops, `No route` and others one that rejects. Prints address, port, protocol, result.
TRY = r"""export LC_ALL=C
look() {
  if [ "$3" = tcp ]; then
    said=$(timeout 3 bash -c ': > "/dev/tcp/$0/$1"' "$1" "$2" 2>&1); status=$?
  else
    said=$(timeout 3 bash -c 'exec 3<>"/dev/udp/$0/$1" && echo x >&3; sleep 0.3; echo x >&3' "$1" "$2" 2>&1)
    status=$?; [ $status = 0 ] && status=124
  fi
  case "$status $said" in
    0*|*refused*) result=passes ;;
    124*) result=silence ;;
    *) result=rejected ;;
  esac
  echo "$1 $2 $3 $result"
}
while [ $# -gt 0 ]; do look "$1" "$2" "$3" & shift 3; done
wait"""


def flows(settings: Settings) -> list[Flow]:
    """(source, target, port, protocol) of what the settings in use need between the very machines, both ways."""
    nodes, k3s = settings.cluster.nodes, settings.cluster.k3s
    control = [node.name for node in servers(settings)]
    backend = k3s.config.get("flannel-backend", "vxlan")
    udp = {"vxlan": [VXLAN], "wireguard-native": [WIREGUARD]}.get(str(backend), [])
    if WIREGUARD in udp and settings.cluster.network.pods6:
        udp = [*udp, WIREGUARD6]
    everyone = [10250, *([SPEGEL] if k3s.embedded_registry else [])]
    if not {"servicelb", "traefik"} & set(k3s.disable):
        everyone += [80, 443]
    found: list[Flow] = []
    for source in (node.name for node in nodes):
        for target in (node.name for node in nodes if node.name != source):
            found += [(source, target, port, "tcp") for port in everyone]
            found += [(source, target, port, "udp") for port in udp]
            if target in control:
                found.append((source, target, 6443, "tcp"))
                if source in control and datastore(settings) == "etcd":
                    found += [(source, target, port, "tcp") for port in (2379, 2380)]
    return found


def blocked(
    settings: Settings, machines: Mapping[str, Machine], found: Mapping[str, State]
) -> list[tuple[Flow, str]]:  # fmt: skip
    """The flows that do not pass, tried from machine to machine, each with what happened.

    A machine without bash cannot try. UDP that is met by silence counts only where TCP is dropped as well, or nothing
    else can be the reason: k3s does not run on the target yet, and the target has a firewall.
    """
    address = {node.name: str(node.address) for node in settings.cluster.nodes}
    wanted = [flow for flow in flows(settings) if flow[0] in machines and flow[1] in machines]

    def look(machine: Machine) -> list[tuple[Flow, str]]:
        own = [flow for flow in wanted if flow[0] == machine.name]
        words = [word for _, target, port, kind in own for word in (address[target], str(port), kind)]
        if not words:
            return []
        done = machine.run(["bash", "-c", TRY, "bash", *words], check=False, timeout=60)
        results = {tuple(line.split()[:3]): line.split()[3] for line in done.stdout.splitlines() if done.ok}
        return [(flow, results.get((address[flow[1]], str(flow[2]), flow[3]), "passes")) for flow in own]

    tried = [pair for pairs in each(machines.values(), look).values() for pair in pairs]
    dropped = {flow[1] for flow, result in tried if flow[3] == "tcp" and result == "silence"}

    def counts(flow: Flow, result: str) -> bool:
        if flow[3] == "tcp" or result == "rejected":
            return result != "passes"
        state = found[flow[1]]
        return result == "silence" and not state.active and (flow[1] in dropped or state.firewall != "none")

    return [(flow, result) for flow, result in tried if counts(flow, result)]


def _reached(
    settings: Settings, names: Sequence[str], shut: Sequence[tuple[Flow, str]]
) -> Iterator[tuple[str, Finding]]:
    """One finding a machine: from whom it is not reached, at which ports."""
    nodes = settings.cluster.network.nodes
    for name in names:
        ways = sorted(
            {f"{port}/{kind} from {source} ({result})" for (source, to, port, kind), result in shut if to == name}
        )
        fix = f"let {nodes} pass on {name}, or these ports from the machines; nothing of them from elsewhere but 6443"
        yield name, Finding("reached", not ways, "at the ports in use, by all machines", ", ".join(ways) or "yes", fix)


def preflight(
    settings: Settings,
    seen: Mapping[str, Facts],
    found: Mapping[str, State],
    *,
    shut: Sequence[tuple[Flow, str]] = (),
    lost: Mapping[str, str] | None = None,
) -> "pd.DataFrame":
    """Every rule for every machine.

    Args:
        shut: what `blocked` found.
        lost: machines that could not be asked, with the reason.

    Returns:
        One row for each machine and rule.

        Columns: node, check, ok, expected, found, fix

    Raises:
        PreflightFailed: naming each machine and rule that does not hold; `.table` has them all.
    """
    findings: list[tuple[str, Finding]] = [
        (
            name,
            Finding("login", False, "an answer over SSH", why, "start the machine; or take it off: uninstall(nodes)"),
        )
        for name, why in (lost or {}).items()
    ]
    for node in settings.cluster.nodes:
        if node.name in found:
            facts, state = seen[node.name], found[node.name]
            joined = replace(facts, member=state.member)
            findings += [(node.name, rule(node, joined, settings)) for rule in SHARED]
            findings += [(node.name, rule(node, facts, state, settings)) for rule in OWN]
    ways = _reached(settings, list(found), shut)
    return conclude([*findings, *identities(found), *one_cluster(settings, found), *clocks(seen), *ways])
