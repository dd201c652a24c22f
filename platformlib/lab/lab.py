"""The lab as a whole: up, status, ssh, restart, down. Each can be repeated, and goes on where it was stopped."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib.bundle import Bundle
from platformlib.errors import LabError
from platformlib.lab import cgroups
from platformlib.lab.disk import disk_down, disk_up, unpack
from platformlib.lab.host import check
from platformlib.lab.limits import give_back, raise_limit
from platformlib.lab.machine import boot, running, wait_for_login
from platformlib.lab.network import hub_up, machine_up, network_down
from platformlib.lab.plan import plan
from platformlib.lab.services import (
    REGISTRY_PORT,
    refused_lookups,
    service_state,
    services_down,
    services_up,
)
from platformlib.machines.ssh import SshMachine, hang_up
from platformlib.paths import cache_dir
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


def _silent(_: str) -> None:
    """No one wants to hear."""


class Lab:
    """The machines of a parameters file, on this host."""

    def __init__(self, settings: Settings, bundle: Bundle | None = None) -> None:
        self.plan = plan(settings)
        self.bundle = bundle or Bundle()

    def __repr__(self) -> str:
        return f"Lab({self.plan.settings.name}: {', '.join(machine.node.name for machine in self.plan.machines)})"

    def up(self, on_event: Callable[[str], None] = _silent) -> "pd.DataFrame":
        """Start what does not run; ends when every machine takes a login. The status table.

        Raises:
            LabError: the host lacks something (each thing named), or a machine did not come up.
            BundleError: the bundle is not built.
        """
        check(self.plan)
        lower = unpack(self.bundle.rootfs, cache_dir() / "lab")
        on_event("network, names and images")
        if raise_limit():
            on_event("raised fs.inotify.max_user_instances while a lab is up; `lab down` gives it back")
        hub_up(self.plan)
        services_up(self.plan, self.bundle.registry_config(f"{self.plan.gateway}:{REGISTRY_PORT}"))
        for machine in self.plan.machines:
            on_event(f"{machine.node.name}: starting")
            machine_up(self.plan, machine)
            boot(self.plan, machine, disk_up(self.plan, machine, lower))
        for machine in self.plan.machines:
            seconds = wait_for_login(self.plan, machine)
            on_event(f"{machine.node.name}: login after {seconds:.1f} s")
        return self.status()

    def status(self) -> "pd.DataFrame":
        """One row a machine or service: name, address, state, processes, memory in MiB."""
        import pandas as pd

        rows = [
            (machine.node.name, str(machine.node.address), "running" if running(machine) else "stopped", machine.group)
            for machine in self.plan.machines
        ]
        gateway = str(self.plan.gateway)
        rows += [
            (name, gateway, service_state(self.plan, name), f"{self.plan.group}-{name}")
            for name in ("names", "registry", "internet")
            if name != "internet" or self.plan.settings.lab.internet
        ]
        table = pd.DataFrame(rows, columns=["name", "address", "state", "group"])
        table["processes"] = [len(cgroups.members(group)) for group in table["group"]]
        table["memory_mib"] = [cgroups.memory(group) >> 20 for group in table["group"]]
        return table.drop(columns="group")

    def refused_lookups(self) -> list[str]:
        """Every name from outside that a machine asked for; stays empty when nothing outside is needed."""
        return refused_lookups(self.plan)

    def ssh(self, name: str) -> list[str]:
        """The command line of a terminal session on a machine."""
        for machine in self.plan.machines:
            if machine.node.name == name:
                ssh = self.plan.settings.cluster.ssh
                return SshMachine(name, str(machine.node.address), ssh, self.plan.folder.parent).terminal()
        known = ", ".join(machine.node.name for machine in self.plan.machines)
        raise LabError(f"no machine {name!r} in {self.plan.settings.name}", fix=f"one of {known}")

    def cut_power(self, *names: str) -> None:
        """End machines as a power failure would: at once; their disks stay. `up` starts them again."""
        for machine in self.plan.machines:
            if not names or machine.node.name in names:
                cgroups.kill(machine.group)

    def down(self, on_event: Callable[[str], None] = _silent) -> None:
        """Remove the lab: processes, control groups, mounts, links, namespaces, disks."""
        hang_up()
        self.cut_power()
        services_down(self.plan)
        on_event("machines and services ended")
        network_down(self.plan)
        give_back(self.plan)
        for machine in self.plan.machines:
            disk_down(machine)
        shutil.rmtree(self.plan.folder, ignore_errors=True)
        # The machines' host keys are gone with their disks; a new lab has new ones.
        (self.plan.folder.parent / "known_hosts").unlink(missing_ok=True)
        on_event("nothing left")
