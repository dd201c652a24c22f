"""The lab as a whole: up, status, ssh, cut_power, down. Each can be repeated, and goes on where it was stopped."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.bundle import Bundle
from platformlib.errors import LabError
from platformlib.lab import cgroups, host, parameters
from platformlib.lab.machine import boot, disk_down, disk_up, forget, own_key, running, unpack, wait_for_login
from platformlib.lab.network import hub_up, machine_up, network_down
from platformlib.lab.parameters import REGISTRY_PORT, REMAKE
from platformlib.lab.plan import MARK, Made, Plan, Record, new_tag, owned_by_others, plan, read, records
from platformlib.lab.services import SERVICES, refused_lookups, service_state, services_up
from platformlib.machines.ssh import SshMachine, hang_up
from platformlib.paths import cache_dir, state_root
from platformlib.settings import Settings
from platformlib.settings.models import Lab as Size

if TYPE_CHECKING:
    import pandas as pd

OnEvent = Callable[[str], None]


def _silent(_: str) -> None:
    """No one wants to hear."""


class Lab:
    """The machines of a parameters file, on this host.

    Args:
        settings: a parameters file's; of a file that describes real machines, a lab is made under the name `lab-NAME`.
        bundle: where root file system and images come from.
    """

    def __init__(self, settings: Settings, bundle: Bundle | None = None) -> None:
        self.given = settings
        self.bundle = bundle or Bundle()
        self.name = parameters.name_of(settings)

    def __repr__(self) -> str:
        return f"Lab({self.name}: {', '.join(node.name for node in self.given.cluster.nodes)})"

    @cached_property
    def plan(self) -> Plan:
        """What the lab consists of; as it was made, where it was made."""
        record = read(self.name)
        network = IPv4Network(record.network) if record else None
        return plan(parameters.for_lab(self.given, network), record)

    @property
    def settings(self) -> Settings:
        """The settings with which everything works on these machines; they hold once the lab is up."""
        return self.plan.settings

    @property
    def _size(self) -> Size:
        return self.settings.lab or Size()

    def _look_again(self) -> None:
        self.__dict__.pop("plan", None)

    def check(self) -> list[str]:
        """Refuse a host that cannot carry the lab; nothing is made. What the lab replaces in the parameters, as lines.

        Raises:
            LabError: with every missing thing and its fix.
        """
        self._look_again()
        host.check(self.settings, self.plan.state)
        return self._settle()[1]

    def _settle(self) -> tuple[Settings, list[str]]:
        """The lab's settings, in a range that is free on this host; and what they replace."""
        record, cluster = read(self.name), self.settings.cluster
        if record is None and (others := owned_by_others(self.name)):
            raise LabError(
                f"{self.name} is the name of a platform that is no lab: {', '.join(map(str, others))}",
                fix="give the lab another name; or, if no platform uses these files, move them away (earlier versions "
                "kept a lab's there)",
            )
        taken = host.taken(record, self.name)
        network, why = host.choose(cluster.network.nodes, taken, (cluster.network.pods, cluster.network.services))
        if why and record:
            if not cgroups.groups(record.tag):
                raise LabError(
                    f"the lab {self.name} has {record.network}; {why}", fix=f"stop what uses it, or {REMAKE}"
                )
            network, why = cluster.network.nodes, ""  # it runs, and somebody's wider route came later
        settings = parameters.for_lab(self.given, network if why or record else None)
        lines = list(parameters.differences(self.given, settings))
        return settings, [f"{line}: {why}" if why and line.startswith(parameters.RANGE) else line for line in lines]

    def up(self, on_event: OnEvent = _silent) -> "pd.DataFrame":
        """Start what does not run; ends when every machine takes a login. The status table.

        Raises:
            LabError: the host lacks something (each thing named), a service or machine did not start, or a machine has
                another address in the file than it was made with.
            BundleError: the bundle is not built.
        """
        host.check(self.settings, self.plan.state)
        with host.lock(on_event):
            self._look_again()
            archive = self.bundle.rootfs
            settings, lines = self._settle()
            for line in lines:
                on_event(line)
            self._remember(settings, on_event)
            self._start(unpack(archive, cache_dir() / "lab"), on_event)
            for machine in self.plan.machines:
                on_event(f"{machine.node.name}: login after {wait_for_login(self.plan, machine):.1f} s")
        return self.status()

    def _remember(self, settings: Settings, on_event: OnEvent) -> None:
        """Write the record and the lab's parameters file before anything is made."""
        record, size = read(self.name), self._size.machine
        wanted = {it.name: Made(it.name, str(it.address), size.memory, size.cpus) for it in settings.cluster.nodes}
        made = {machine.name: machine for machine in record.machines} if record else {}
        for name, machine in made.items():
            if name not in wanted:
                on_event(f"{name}: not in the file any more; it stays until `platformlib lab down`")
            elif machine.address != wanted[name].address:
                now = wanted[name].address
                raise LabError(f"{name} was made with {machine.address}; the file says {now}", fix=REMAKE)
            elif machine != wanted[name]:
                on_event(f"{name}: stays at {machine.memory} and {machine.cpus:g} CPUs until it is made anew")
        tag = record.tag if record else new_tag(self.name)
        record = Record(self.name, tag, str(settings.cluster.network.nodes), tuple((wanted | made).values()))
        record.write()
        path = parameters.write(self.given, settings)
        if self.given.lab is None:
            on_event(f"the lab's parameters, for every command on it: -f {path}")
        self.plan = plan(settings, record)

    def _start(self, lower: Path, on_event: OnEvent) -> None:
        on_event("network, names and images")
        if host.Inotify().raise_limit():
            on_event("raised fs.inotify.max_user_instances while a lab is up; `lab down` gives it back")
        own_key(self.plan)
        hub_up(self.plan)
        services_up(self.plan, self.bundle.registry_config(f"{self.plan.gateway}:{REGISTRY_PORT}"))
        for machine in self.plan.machines:
            machine_up(self.plan, machine)
            if boot(self.plan, machine, disk_up(self.plan, machine, lower), self._size):
                on_event(f"{machine.node.name}: starting")

    def status(self) -> "pd.DataFrame":
        """One row a machine or service.

        Returns:
            Columns: name, address, state (running, stopped), processes, memory_mib.
        """
        import pandas as pd

        rows = [
            (machine.node.name, str(machine.node.address), "running" if running(machine) else "stopped", machine.group)
            for machine in (*self.plan.machines, *self.plan.gone)
        ]
        gateway = str(self.plan.gateway)
        rows += [
            (name, gateway, service_state(self.plan, name), self.plan.service_group(name))
            for name in SERVICES
            if name != "internet" or self._size.internet
        ]
        table = pd.DataFrame(rows, columns=["name", "address", "state", "group"])
        table["processes"] = [len(cgroups.members(group)) for group in table["group"]]
        table["memory_mib"] = [cgroups.memory(group) >> 20 for group in table["group"]]
        return table.drop(columns="group")

    def refused_lookups(self) -> list[str]:
        """Every name from outside that a machine asked for; stays empty when nothing outside is needed."""
        return refused_lookups(self.plan)

    def ssh(self, name: str) -> list[str]:
        """The command line of a terminal session on a machine.

        Raises:
            LabError: the lab has no machine of that name.
        """
        machines = {machine.node.name: machine.node for machine in (*self.plan.machines, *self.plan.gone)}
        if name not in machines:
            raise LabError(f"no machine {name!r} in {self.name}", fix=f"one of {', '.join(machines)}")
        return SshMachine(name, str(machines[name].address), self.settings.cluster.ssh, self.plan.state).terminal()

    def cut_power(self, *names: str) -> None:
        """End machines as a power failure would: at once; their disks stay. `up` starts them again."""
        for machine in (*self.plan.machines, *self.plan.gone):
            if not names or machine.node.name in names:
                cgroups.kill(machine.group)

    def down(self, on_event: OnEvent = _silent) -> None:
        """Remove everything that the lab made; no-op where there is none. What the file says by now does not matter."""
        remove(self.name, on_event)
        self._look_again()


def remove(name: str, on_event: OnEvent = _silent) -> bool:
    """Remove a lab by its name: processes, groups, mounts, links, namespaces, disks, keys; False where there is none.

    Raises:
        LabError: a process or a mount does not go away.
    """
    if _to_remove(name) is None:
        with suppress(OSError):  # a folder without anything in it, of an `up` or `down` that was killed
            (state_root() / name).rmdir()
        names = ", ".join(record.name for record in records()) or "none"
        on_event(f"there is no lab {name}; labs of this state folder: {names}")
        return False
    if os.geteuid() != 0:
        raise LabError(f"not root, so the lab {name} cannot be removed", fix="run it as root")
    hang_up()
    with host.lock(on_event):
        if record := _to_remove(name):
            _remove(record, on_event)
    on_event("nothing left")
    return True


def _to_remove(name: str) -> Record | None:
    """The record of a lab; of one that is damaged, what it must have said."""
    try:
        return read(name)
    except LabError:
        return Record(name, new_tag(name), "", ())


def _remove(record: Record, on_event: OnEvent) -> None:
    """All that the record's tag names on this host, then the state folder; the record goes last."""
    for group in sorted(cgroups.groups(record.tag)):
        cgroups.kill(group)
    on_event("machines and services ended")
    network_down(record.tag)
    if not cgroups.groups():
        host.Inotify().give_back()
    state = record.path.parent
    forget(record.tag, state / "lab")
    disk_down(state / "lab")
    for entry in state.iterdir():
        if entry.name != MARK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    record.path.unlink()
    state.rmdir()
