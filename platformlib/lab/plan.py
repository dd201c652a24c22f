"""What a lab consists of, by name, and the record of what a lab made.

The record `lab.json` is written before the first thing is made. It marks the state folder as a lab's, and keeps the
range, the machines and their addresses, so that `down` finds everything whatever the parameters file says by then.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from platformlib.errors import LabError
from platformlib.paths import state_root
from platformlib.settings.models import Node, Settings

RUN = Path("/run/platformlib")  # network namespaces, the lock, the host's own limits: gone at the next boot
MARK = "lab.json"
# What a platform keeps in its state folder. A folder that has one of these and no mark is not a lab's.
KEPT = ("kubeconfig", "known_hosts", "id_ed25519", "identity.json")


@dataclass(frozen=True)
class Made:
    """One machine that a lab made; `memory` and `cpus` are the limits that it was started with."""

    name: str
    address: str
    memory: str
    cpus: float


@dataclass(frozen=True)
class Record:
    """What a lab made on this host."""

    name: str
    tag: str
    network: str
    machines: tuple[Made, ...]

    @property
    def path(self) -> Path:
        return state_root() / self.name / MARK

    def write(self) -> None:
        """Keep the record; a reader finds the old one or the new one."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.path.with_name(f"{MARK}.new")
        new.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")
        new.replace(self.path)


def read(name: str) -> Record | None:
    """The record of the lab `name`; None where there is no such lab."""
    path = state_root() / name / MARK
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        machines = tuple(Made(**machine) for machine in found.pop("machines"))
        return Record(**found | {"name": name}, machines=machines)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        fix = f"platformlib lab down --name {name}: it removes this lab all the same"
        raise LabError(f"{path} cannot be read: {error}", fix=fix) from None


def records() -> list[Record]:
    """The labs of this state folder."""
    names = sorted(path.parent.name for path in state_root().glob(f"*/{MARK}"))
    return [record for name in names if (record := read(name))]


def owned_by_others(name: str) -> list[Path]:
    """What a platform that is no lab keeps under this name; empty where the name is free or a lab's."""
    folder = state_root() / name
    if (folder / MARK).exists():
        return []
    return [folder / kept for kept in KEPT if (folder / kept).exists()]


@dataclass(frozen=True)
class MachinePlan:
    """One machine: its namespace, its link on the hub, its folder and its control group."""

    node: Node
    namespace: Path
    link: str
    folder: Path
    group: str


@dataclass(frozen=True)
class Plan:
    """One lab: the hub, the host's link to it, and the machines. `gone` were made and are not in the file any more."""

    settings: Settings
    state: Path
    tag: str
    network: IPv4Network
    machines: tuple[MachinePlan, ...]
    gone: tuple[MachinePlan, ...] = ()

    @property
    def folder(self) -> Path:
        """Disks, logs and configuration of the lab."""
        return self.state / "lab"

    @property
    def hub(self) -> Path:
        """The hub's network namespace."""
        return RUN / self.tag / "hub"

    @property
    def link(self) -> str:
        """The host's link to the hub."""
        return f"pl{self.tag}host"

    @property
    def gateway(self) -> IPv4Address:
        """The hub, which serves names and images."""
        return self.network[1]

    @property
    def host(self) -> IPv4Address:
        """This host, as the machines see it."""
        return self.network[-2]

    def service_group(self, service: str) -> str:
        """The control group of a service of the hub."""
        return f"platformlib-{self.tag}-service-{service}"


def plan(settings: Settings, record: Record | None = None) -> Plan:
    """The lab of settings that are a lab's (see `parameters.py`), with the machines of its record.

    Raises:
        LabError: a node has an address that the lab needs for itself.
    """
    state, network = state_root() / settings.name, settings.cluster.network.nodes
    tag = record.tag if record else new_tag(settings.name)
    for node in settings.cluster.nodes:
        if node.address in (network[1], network[-2]):
            raise LabError(
                f"{node.name} has the address {node.address}, which the lab needs for itself",
                fix=f"give it another than {network[1]} (images, names) and {network[-2]} (this host)",
            )
    names = {node.name for node in settings.cluster.nodes}
    gone = [Node(name=it.name, address=IPv4Address(it.address)) for it in record.machines] if record else []
    return Plan(
        settings,
        state,
        tag,
        network,
        tuple(_machine(node, tag, state) for node in settings.cluster.nodes),
        tuple(_machine(node, tag, state) for node in gone if node.name not in names),
    )


def new_tag(name: str) -> str:
    """What tells the lab's links and groups from those of every other lab, of another state folder as well."""
    return _digest(str((state_root() / name).resolve()), 6)


def _machine(node: Node, tag: str, state: Path) -> MachinePlan:
    """Every name comes from the machine's own: an edit of the file's list moves nothing.

    A link's name may have 15 characters.
    """
    return MachinePlan(
        node,
        namespace=RUN / tag / f"machine-{node.name}",
        link=f"pl{tag}{_digest(node.name, 7)}",
        folder=state / "lab" / "machines" / node.name,
        group=f"platformlib-{tag}-machine-{node.name}",
    )


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
