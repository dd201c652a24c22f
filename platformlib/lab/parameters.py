"""The parameters of a lab: those of a file, with everything that would lead to real machines replaced.

A file with a `lab` section describes a lab, and every command on it works on the lab's machines. A file without one
describes real machines. `lab up` makes a lab of it as well, under the name `lab-NAME`, and writes the lab's own
parameters file; the real platform's state folder, keys and kubeconfig are not touched.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import yaml

from platformlib.errors import LabError
from platformlib.lab import plan
from platformlib.paths import state_root
from platformlib.settings import Settings, load
from platformlib.settings.models import Lab, Ssh

REGISTRY_PORT = 5000
ADDRESS = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3})(/\d{1,2})?(?![\d.])")
LINK = re.compile(r"pl[0-9a-f]{6}host")
FILE = "parameters.yaml"
RANGE = "cluster.network.nodes"
REMAKE = "`platformlib lab down`, then `platformlib lab up`: machines are made anew"
Document = dict[str, Any]


def name_of(settings: Settings) -> str:
    """The lab's platform name: the file's own where it describes a lab, else `lab-NAME`."""
    return settings.name if settings.lab else f"lab-{settings.name}"[:63].rstrip("-")


def for_lab(settings: Settings, network: IPv4Network | None = None) -> Settings:
    """The settings with which everything works on the lab's machines.

    Args:
        network: the lab's range, where it is not the file's; every address of the file's range moves with it.

    Raises:
        LabError: there are no machines, or the range has another size.
    """
    own = settings.cluster.network.nodes
    if settings.cluster.distribution == "existing" or not settings.cluster.nodes:
        raise LabError(f"{settings.name} names no machines, so there is no lab of it", fix="list them: cluster.nodes")
    if network and network.prefixlen != own.prefixlen:
        raise LabError(f"{name_of(settings)} was made with {network}, and the file says {own}", fix=REMAKE)
    document = settings.model_dump(mode="json")
    if network and network != own:
        document = moved(document, own, network)
    cluster = document["cluster"]
    cluster |= {"ssh": Ssh().model_dump(mode="json"), "kubeconfig": None, "context": None}
    cluster["nodes"] = [node | {"connection": "ssh", "address6": None} for node in cluster["nodes"]]
    cluster["network"] |= {"pods6": None, "services6": None}
    cluster["k3s"] |= {"endpoint": None}
    document |= {
        "name": name_of(settings),
        "lab": (settings.lab or Lab()).model_dump(mode="json"),
        "registry": document["registry"] | {"mirror": f"http://{(network or own)[1]}:{REGISTRY_PORT}"},
    }
    return load(document)


def moved(value: Any, old: IPv4Network, new: IPv4Network) -> Any:
    """A document in which every address of the range `old` is the one at the same place of `new`."""

    def move(match: re.Match[str]) -> str:
        try:
            if IPv4Address(match[1]) not in old or IPv4Network(match[0], strict=False).prefixlen < old.prefixlen:
                return match[0]
        except ValueError:
            return match[0]
        return f"{new[int(IPv4Address(match[1])) - int(old[0])]}{match[2] or ''}"

    match value:
        case str():
            return ADDRESS.sub(move, value)
        case dict():
            return {key: moved(inner, old, new) for key, inner in value.items()}
        case list():
            return [moved(inner, old, new) for inner in value]
        case _:
            return value


def differences(given: Settings, lab: Settings) -> Iterator[str]:
    """What a lab replaces in the parameters that it was given, a line each."""
    if given.name != lab.name:
        yield f"name: {lab.name} instead of {given.name}; keys and kubeconfig are kept apart"
    if given.cluster.network.nodes != lab.cluster.network.nodes:
        yield f"{RANGE}: {lab.cluster.network.nodes} instead of {given.cluster.network.nodes}"
    if local := [node.name for node in given.cluster.nodes if node.connection != "ssh"]:
        yield f"connection: ssh instead of local, for {', '.join(local)}"
    if given.cluster.ssh != lab.cluster.ssh:
        yield f"cluster.ssh: root with the lab's own key, instead of {given.cluster.ssh.user} with the file's settings"
    for key in ("kubeconfig", "context"):
        if getattr(given.cluster, key):
            yield f"cluster.{key}: the lab's own instead of {getattr(given.cluster, key)}"
    if given.cluster.network.pods6:
        yield "cluster.network: IPv4 alone, instead of dual-stack"
    if given.cluster.k3s.endpoint:
        yield f"cluster.k3s.endpoint: the servers' own addresses instead of {given.cluster.k3s.endpoint}"
    if given.registry.mirror != lab.registry.mirror:
        yield f"registry.mirror: {lab.registry.mirror} instead of {given.registry.mirror or 'upstream'}"


def write(given: Settings, lab: Settings) -> Path:
    """Write the lab's parameters file into its state folder."""
    header = ["Written by `platformlib lab up`; these parameters are the lab's.", *differences(given, lab)]
    path = state_root() / lab.name / FILE
    document = lab.model_dump(mode="json", exclude_none=True)
    path.write_text(
        "".join(f"# {line}\n" for line in header) + yaml.safe_dump({"platform": document}, sort_keys=False), "utf-8"
    )
    return path


def resolve(settings: Settings) -> Settings:
    """The settings that commands work with: those of a lab's machines where the file describes a lab that is up.

    Raises:
        LabError: the file describes real machines, and its name is a lab's.
    """
    record = plan.read(settings.name)
    if settings.lab is None:
        if record:
            fix = "give the platform another name, or take the lab down: "
            raise LabError(
                f"{settings.name} is the name of a lab on this host, and the file describes real machines",
                fix=f"{fix}`platformlib lab down --name {settings.name}`",
            )
        return settings
    if record is None or settings.cluster.distribution == "existing":
        return settings
    return for_lab(settings, IPv4Network(record.network))


def require_machines(settings: Settings) -> None:
    """Refuse to reach for machines that are not those of the file.

    Raises:
        LabError: the file describes a lab that is not up, or real machines whose addresses a lab of this host has.
    """
    if settings.cluster.distribution == "existing":
        return
    if settings.lab:
        if plan.read(settings.name) is None:
            fix = "`platformlib lab up -f FILE`; without its `lab` section the file describes real machines"
            raise LabError(f"the lab {settings.name} is not up, so its addresses may be other machines'", fix=fix)
        return
    for node in settings.cluster.nodes:
        if holder := next((network for network in ranges_of_labs() if node.address in network), None):
            fix = "for the lab's machines use its own file (`platformlib lab up` names it); "
            raise LabError(
                f"{node.name}: on this host {node.address} is a lab's, which has {holder}",
                fix=f"{fix}for the real ones take the lab down first",
            )


def ranges_of_labs(table: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """The ranges that labs of this host have, whoever made them."""
    lines = table.read_text("utf-8").splitlines()[1:] if table.exists() else []
    rows = [line.split() for line in lines]
    return [
        IPv4Network((_little_endian(row[1]), str(IPv4Address(_little_endian(row[7])))))
        for row in rows
        if LINK.fullmatch(row[0])
    ]


def _little_endian(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")
