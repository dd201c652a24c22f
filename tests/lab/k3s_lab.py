"""What the tests of k3s on real machines share: the binary (a stand-in unless K3S_BINARY names a real one), the
machines, connections and power that are cut, and the state of a machine as text that can be compared.
"""

import hashlib
import json
import os
import platform as host
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import platformlib as pl
from platformlib.clusters.k3s import K3s
from platformlib.clusters.k3s.artifacts import ARCHITECTURES, BINARIES
from platformlib.clusters.k3s.kubectl import Kubectl, Member
from platformlib.errors import NodeUnreachable
from platformlib.lab import Lab
from platformlib.machines import Completed, Machine
from platformlib.settings import Settings

REAL = os.environ.get("K3S_BINARY", "")
NEXT = os.environ.get("K3S_BINARY_NEXT", "")
STAND_IN = Path(__file__).parent / "k3s_stand_in.py"
ARCH = ARCHITECTURES[host.machine()]


def _version_of(binary: str) -> str:
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()[2]


FIRST = _version_of(REAL) if REAL else "v1.35.4+k3s1"
SECOND = _version_of(NEXT) if NEXT else "v1.36.2+k3s1"
BROKEN = "v1.36.9+k3s1"
WHY_NO_SECOND = "an upgrade needs a second release: K3S_BINARY_NEXT=/path" if REAL and not NEXT else ""


def make_bundle(folder: Path) -> Path:
    """A bundle folder with each release below its version, laid out as upstream publishes it."""
    if REAL:
        for version, binary in ((FIRST, REAL), (SECOND, NEXT)):
            if binary:
                images = sorted(Path(binary).parent.glob(f"k3s-airgap-images-{ARCH}.tar*"))
                _release(folder / version, {BINARIES[ARCH]: Path(binary)} | {path.name: path for path in images})
        return folder
    folder.mkdir()
    text = STAND_IN.read_text("utf-8")
    for version, fault in ((FIRST, ""), (SECOND, ""), (BROKEN, "never ready")):
        made = folder / f"stand-in-{version}"
        changed = text.replace(f'VERSION = "{FIRST}"', f'VERSION = "{version}"')
        made.write_text(changed.replace('FAULT = ""', f'FAULT = "{fault}"'), "utf-8")
        _release(folder / version, {BINARIES[ARCH]: made})
    return folder


def _release(folder: Path, files: dict[str, Path]) -> None:
    folder.mkdir(parents=True)
    for name, source in files.items():
        shutil.copy(source, folder / name)
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (folder / f"sha256sum-{ARCH}.txt").write_text("".join(sums), "utf-8")


def settings(
    bundle: Path,
    *,
    servers: int = 1,
    count: int = 3,
    version: str = FIRST,
    nodes: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    **k3s: Any,
) -> Settings:
    """The first `count` machines, `servers` of them servers; `nodes` adds to a node by its name."""
    names = ("k3s-1", "k3s-2", "k3s-3")[:count]
    listed = [
        {"name": name, "address": f"192.168.51.20{number}", "role": "control-plane" if number <= servers else "worker"}
        | (nodes or {}).get(name, {})
        for number, name in enumerate(names, 1)
    ]
    cluster = {
        "distribution": "k3s",
        "version": version,
        "nodes": listed,
        "network": {"nodes": "192.168.51.0/24"},
        "k3s": {"bundle": str(bundle), "hardening": True} | k3s,
        **(cluster or {}),
    }
    memory = "3Gi" if REAL else "1Gi"
    return pl.load({"name": "k3slab", "cluster": cluster, "lab": {"machine": {"memory": memory, "cpus": 2.0}}})


class Cut(Machine):
    """A machine whose connection is lost at one command: before it, or after it has run but before its answer came."""

    def __init__(self, real: Machine, budget: list[int]) -> None:
        super().__init__(real.name, real.address)
        self.real, self.budget = real, budget

    def _execute(self, argv: Any, source: Any, timeout: float, *, sink: Any = None) -> Completed:
        self.budget[0] -= 1
        if self.budget[0] == 0:
            self.cut(argv, source, timeout, sink)
            raise NodeUnreachable(self.name, "no SSH connection: cut by the test")
        if self.budget[0] < 0:
            raise NodeUnreachable(self.name, "no SSH connection: still cut")
        return self.real._execute(argv, source, timeout, sink=sink)

    def cut(self, argv: Any, source: Any, timeout: float, sink: Any) -> None:
        if self.budget[1] % 2:
            self.real._execute(argv, source, timeout, sink=sink)


class PowerCut(Cut):
    """A machine that loses its power at one command: before it, in its middle, or right after it."""

    lab: Lab

    def cut(self, argv: Any, source: Any, timeout: float, sink: Any) -> None:
        work = Thread(target=self.attempt, args=(argv, source, timeout, sink), daemon=True)
        when = self.budget[1] % 3
        if when:
            work.start()
            work.join(0.15 if when == 1 else 10)
        self.lab.cut_power(self.name)
        if when:
            work.join(20)

    def attempt(self, argv: Any, source: Any, timeout: float, sink: Any) -> None:
        with suppress(Exception):
            self.real._execute(argv, source, timeout, sink=sink)


def cut_everywhere(driver: K3s, number: int, kind: type[Cut] = Cut) -> K3s:
    """The same driver, anew, whose connections (or power) end at its `number`-th command."""
    fresh, budget = K3s(driver.settings), [number, number]
    machines = {name: kind(machine, budget) for name, machine in fresh.machines.items()}
    fresh.machines.clear()
    fresh.machines.update(machines)
    return fresh


class Counted(Machine):
    """A machine that counts its commands."""

    def __init__(self, real: Machine, count: list[int]) -> None:
        super().__init__(real.name, real.address)
        self.real, self.count = real, count

    def _execute(self, argv: Any, source: Any, timeout: float, *, sink: Any = None) -> Completed:
        self.count[0] += 1
        return self.real._execute(argv, source, timeout, sink=sink)


def counted(driver: K3s) -> tuple[K3s, list[int]]:
    """The same driver, anew, and the number of commands that it has sent."""
    fresh, count = K3s(driver.settings), [0]
    machines: dict[str, Machine] = {name: Counted(machine, count) for name, machine in fresh.machines.items()}
    fresh.machines.clear()
    fresh.machines.update(machines)
    return fresh, count


# Contents, modes and units of all that the driver makes; tokens and certificates by mode alone, as they are random.
FINGERPRINT = r"""
for file in $(find /etc/rancher /etc/platformlib /etc/systemd/system/k3s* /usr/local/lib/platformlib \
    /usr/local/bin -type f 2>/dev/null | sort); do
  case $file in
    */token|*/agent-token|*/k3s.yaml|*/password|*.labelled|*/node-passwd) sum=random ;;
    */usr/local/bin/k3s) sum=binary ;;
    *) sum=$(sha256sum < $file | cut -c1-12) ;;
  esac
  echo "$(stat -c '%a %U' $file) $sum $file"
done
/usr/local/bin/k3s --version 2>/dev/null | head -n 1
systemctl is-enabled k3s k3s-agent 2>/dev/null
systemctl is-active k3s k3s-agent 2>/dev/null
ls -A /var/lib/platformlib/k3s /etc/platformlib 2>/dev/null
true
"""
UNIT = "systemctl show -p MainPID --value k3s k3s-agent | grep -vE '^0?$' | head -n 1"


def fingerprint(driver: K3s) -> dict[str, str]:
    return {name: machine.shell(FINGERPRINT) for name, machine in driver.machines.items()}


def processes(driver: K3s) -> dict[str, str]:
    """The main process of k3s on each machine: another one after a restart."""
    return {name: machine.shell(UNIT).strip() for name, machine in driver.machines.items()}


def members(driver: K3s, on: str = "k3s-1") -> dict[str, Member]:
    return Kubectl(driver.machines[on]).members()


def kubectl(driver: K3s, *arguments: str, on: str = "k3s-1") -> str:
    return Kubectl(driver.machines[on]).read(*arguments).stdout


def namespaces(driver: K3s, on: str = "k3s-1") -> set[str]:
    words = kubectl(driver, "get", "namespaces", "-o", "name", on=on).split()
    return {word.partition("/")[2] for word in words}


def nodes(driver: K3s, on: str = "k3s-1") -> dict[str, Any]:
    """The Node objects by name."""
    return {it["metadata"]["name"]: it for it in Kubectl(driver.machines[on]).get("nodes")["items"]}


def until(cause: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not cause():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(1)


# Another machine that asks the first server again and again to be let in, with a wrong token.
INTRUDER = """
import socket, time
ask = dict(op='join', ca='', password='wrong', name='x', role='agent', node='', critical={}, ip='192.168.51.203')
while True:
    try:
        with socket.create_connection(('192.168.51.201', 6443), timeout=2) as link:
            link.sendall(repr(ask).encode()); link.shutdown(socket.SHUT_WR); link.recv(65536)
    except OSError:
        pass
    time.sleep(0.1)
"""


def authorities(driver: K3s, names: Iterable[str] = ("k3s-1", "k3s-2", "k3s-3")) -> set[str]:
    """The hashes of the CAs that the machines hold: one, when there is one cluster."""
    script = (
        "cat /var/lib/rancher/k3s/server/tls/server-ca.crt 2>/dev/null || cat /var/lib/rancher/k3s/agent/server-ca.crt"
    )
    return {driver.machines[name].shell(script) for name in names}


WIPE = r"""
systemctl disable --now k3s k3s-agent 2>/dev/null
pkill -9 -f '^/var/lib/rancher/k3s/data/[^/]+/bin/containerd-shim'
for mount in $(awk '$2 ~ "^(/run/k3s|/var/lib/kubelet/)" {print $2}' /proc/mounts); do umount "$mount"; done
for link in cni0 flannel.1; do ip link delete $link; done
ip netns delete cni-5ta2d1
rm -rf /etc/rancher /etc/platformlib /var/lib/rancher/* /var/lib/platformlib/* /usr/local/lib/platformlib
rm -rf /srv/k3s-stand-in-bucket /etc/k3s-stand-in /run/k3s /var/lib/kubelet/*
systemctl reset-failed
rm -rf /usr/local/bin/* /etc/systemd/system/k3s*
systemctl daemon-reload
true
"""


def change(driver: K3s, *arguments: str, on: str = "k3s-1", stdin: str | None = None) -> str:
    """A kubectl that changes the cluster."""
    return Kubectl(driver.machines[on]).write(*arguments, stdin=stdin).stdout


def pod(driver: K3s, name: str, node: str, *, owner: str = "", budget: str = "", on: str = "k3s-1") -> None:
    """A pod on a node; without an owner nothing starts it again, with a budget `blocked` nothing evicts it."""
    owners = [{"kind": owner, "name": "x", "controller": True}] if owner else []
    meta = {"name": name, "namespace": "default", "ownerReferences": owners, "annotations": {"stand-in/budget": budget}}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": node}}
    change(driver, "create", "-f", "-", on=on, stdin=json.dumps(manifest))


def rebuild_data(machine: Machine) -> None:
    """No data any more, everything else as it was: as after a first start that failed."""
    machine.change_shell(
        "systemctl stop k3s k3s-agent; rm -rf /var/lib/rancher/k3s/server/db /var/lib/rancher/k3s/agent"
    )


def rebuild(machine: Machine) -> None:
    """What a machine is after its disk was replaced and its system installed anew, as far as k3s is concerned."""
    machine.shell(WIPE, timeout=60)
