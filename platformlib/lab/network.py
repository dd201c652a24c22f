"""The lab's network: a bridge in a namespace of its own, one link to the host, one to each machine.

The bridge does not stand in the host's namespace: there, a firewall of the host (Docker's, say) would filter
what the machines say to each other, and forwarding on the host would let them out.
"""

import json
import time
from pathlib import Path

from platformlib.lab.plan import MachinePlan, Plan
from platformlib.lab.shell import sh

BRIDGE = "br0"


def namespaces() -> set[str]:
    """The names of this host's network namespaces."""
    return {entry["name"] for entry in json.loads(sh("ip", "-j", "netns", "list") or "[]")}


def links(namespace: str | None = None) -> set[str]:
    """The names of the links in a namespace; of the host without one."""
    where = ["-n", namespace] if namespace else []
    return {entry["ifname"] for entry in json.loads(sh("ip", "-j", *where, "link", "show"))}


def hub_up(plan: Plan) -> None:
    """The hub with its bridge, and this host's link to it."""
    prefix = plan.network.prefixlen
    if plan.hub not in namespaces():
        sh("ip", "netns", "add", plan.hub)
    if BRIDGE not in links(plan.hub):
        sh("ip", "-n", plan.hub, "link", "add", BRIDGE, "type", "bridge")
    sh("ip", "-n", plan.hub, "link", "set", "lo", "up")
    sh("ip", "-n", plan.hub, "addr", "replace", f"{plan.gateway}/{prefix}", "dev", BRIDGE)
    sh("ip", "-n", plan.hub, "link", "set", BRIDGE, "up")
    if plan.link not in links():
        sh("ip", "link", "add", plan.link, "type", "veth", "peer", "name", "host", "netns", plan.hub)
    sh("ip", "-n", plan.hub, "link", "set", "host", "master", BRIDGE, "up")
    sh("ip", "addr", "replace", f"{plan.host}/{prefix}", "dev", plan.link)
    sh("ip", "link", "set", plan.link, "up")


def machine_up(plan: Plan, machine: MachinePlan) -> None:
    """A machine's namespace with its `eth0` on the hub's bridge."""
    space, address = machine.namespace, f"{machine.node.address}/{plan.network.prefixlen}"
    if space not in namespaces():
        sh("ip", "netns", "add", space)
    if "eth0" not in links(space):
        sh("ip", "-n", plan.hub, "link", "add", machine.link, "type", "veth", "peer", "name", "eth0", "netns", space)
    sh("ip", "-n", plan.hub, "link", "set", machine.link, "master", BRIDGE, "up")
    sh("ip", "-n", space, "link", "set", "lo", "up")
    sh("ip", "-n", space, "addr", "replace", address, "dev", "eth0")
    sh("ip", "-n", space, "link", "set", "eth0", "up")
    # Service addresses need some route to be looked up at all; the hub forwards nothing unless it is told to.
    sh("ip", "-n", space, "route", "replace", "default", "via", str(plan.gateway))


def network_down(plan: Plan) -> None:
    """Remove every namespace and link; a link can outlive its namespace for a moment, so it is removed by name."""
    for space in [machine.namespace for machine in plan.machines] + [plan.hub]:
        if space in namespaces():
            sh("ip", "netns", "delete", space)
        Path("/run/netns", space).unlink(missing_ok=True)
    deadline = time.monotonic() + 10
    while plan.link in links() and time.monotonic() < deadline:
        sh("ip", "link", "delete", plan.link, check=False)
        time.sleep(0.1)


def routes_of_host() -> list[dict[str, str]]:
    """The host's IPv4 routes, as iproute2 has them."""
    routes: list[dict[str, str]] = json.loads(sh("ip", "-j", "-4", "route", "show") or "[]")
    return routes
