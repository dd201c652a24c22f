"""The lab's network: a bridge in a namespace of its own, one link to the host, one to each machine.

The bridge does not stand in the host's namespace: there, a firewall of the host (Docker's, say) would filter what the
machines say to each other, and forwarding on the host would let them out. The namespaces are files of the lab's own
below /run: `ip netns` would leave a mount of its folder behind, and show them to everybody.
"""

import json
import time
from pathlib import Path

from platformlib.lab.machine import mounts
from platformlib.lab.plan import RUN, MachinePlan, Plan
from platformlib.lab.shell import inside, sh

BRIDGE = "br0"


def links(namespace: Path | None = None) -> set[str]:
    """The names of the links in a namespace; of the host without one."""
    argv = ["ip", "-j", "link", "show"]
    return {entry["ifname"] for entry in json.loads(sh(*(inside(namespace, argv) if namespace else argv)))}


def _namespace(path: Path) -> None:
    """Make a network namespace that its file keeps; no-op where there is one."""
    if path in mounts():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch()
    sh("unshare", f"--net={path}", "true")


def hub_up(plan: Plan) -> None:
    """The hub with its bridge, and this host's link to it."""
    prefix = plan.network.prefixlen
    _namespace(plan.hub)
    if BRIDGE not in links(plan.hub):
        _ip(plan.hub, "link", "add", BRIDGE, "type", "bridge")
    _ip(plan.hub, "link", "set", "lo", "up")
    _ip(plan.hub, "addr", "replace", f"{plan.gateway}/{prefix}", "dev", BRIDGE)
    _ip(plan.hub, "link", "set", BRIDGE, "up")
    if plan.link not in links():
        sh("ip", "link", "add", plan.link, "type", "veth", "peer", "name", "host", "netns", str(plan.hub))
    _ip(plan.hub, "link", "set", "host", "master", BRIDGE, "up")
    sh("ip", "addr", "replace", f"{plan.host}/{prefix}", "dev", plan.link)
    sh("ip", "link", "set", plan.link, "up")


def machine_up(plan: Plan, machine: MachinePlan) -> None:
    """A machine's namespace with its `eth0` on the hub's bridge."""
    space, address = machine.namespace, f"{machine.node.address}/{plan.network.prefixlen}"
    _namespace(space)
    if "eth0" not in links(space):
        _ip(plan.hub, "link", "add", machine.link, "type", "veth", "peer", "name", "eth0", "netns", str(space))
    _ip(plan.hub, "link", "set", machine.link, "master", BRIDGE, "up")
    _ip(space, "link", "set", "lo", "up")
    _ip(space, "addr", "replace", address, "dev", "eth0")
    _ip(space, "link", "set", "eth0", "up")
    # Service addresses need some route to be looked up at all; the hub forwards nothing unless it is told to.
    _ip(space, "route", "replace", "default", "via", str(plan.gateway))


def _ip(namespace: Path, *arguments: str) -> None:
    sh(*inside(namespace, ["ip", *arguments]))


def network_down(tag: str) -> None:
    """Remove every namespace and link; a link can outlive its namespace for a moment, so it is removed by name."""
    folder = RUN / tag
    for path in sorted(folder.glob("*")):
        while path in mounts():
            sh("umount", str(path))
        path.unlink()
    if folder.exists():
        folder.rmdir()
    deadline = time.monotonic() + 10
    while f"pl{tag}host" in links() and time.monotonic() < deadline:
        sh("ip", "link", "delete", f"pl{tag}host", check=False)
        time.sleep(0.1)
