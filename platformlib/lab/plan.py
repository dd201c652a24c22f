"""What a lab consists of, by name: worked out from the settings alone, so that `down` finds all that `up` made."""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from platformlib.errors import LabError
from platformlib.paths import state_dir
from platformlib.settings.models import Node, Settings


@dataclass(frozen=True)
class MachinePlan:
    """One machine: its namespace, its link on the hub, its folder and its control group."""

    node: Node
    namespace: str
    link: str
    folder: Path
    group: str


@dataclass(frozen=True)
class Plan:
    """One lab: the hub, the host's link to it, and the machines."""

    settings: Settings
    folder: Path
    hub: str
    link: str
    group: str
    network: IPv4Network
    gateway: IPv4Address
    host: IPv4Address
    machines: tuple[MachinePlan, ...]


def plan(settings: Settings) -> Plan:
    """The lab of a parameters file.

    Raises:
        LabError: a node has an address that the lab needs for itself.
    """
    name, network = settings.name, settings.cluster.network.nodes
    tag = hashlib.sha256(name.encode()).hexdigest()[:6]  # a link's name may have 15 characters
    folder = state_dir(name) / "lab"
    gateway, host = network[1], network[-2]
    for node in settings.cluster.nodes:
        if node.address in (gateway, host):
            raise LabError(
                f"{node.name} has the address {node.address}, which the lab needs for itself",
                fix=f"give it another than {gateway} (images, names) and {host} (this host)",
            )
    machines = tuple(
        MachinePlan(node, f"pl-{tag}-{index}", f"pl{tag}m{index}", folder / node.name, f"platformlib-{tag}-{index}")
        for index, node in enumerate(settings.cluster.nodes)
    )
    return Plan(
        settings, folder, f"pl-{tag}-hub", f"pl{tag}host", f"platformlib-{tag}", network, gateway, host, machines
    )
