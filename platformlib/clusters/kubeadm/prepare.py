"""What stands on every machine before kubeadm runs: binary, containerd, kubelet's unit, mirror, kernel settings."""

from importlib.resources import files
from pathlib import Path

from platformlib.clusters.kubeadm import config
from platformlib.errors import NodeError
from platformlib.machines import Machine
from platformlib.machines.facts import Facts
from platformlib.settings import Settings

PROGRAMS = ("kubelet", "kubeadm", "kubectl")
LIBRARY = "/usr/local/lib/platformlib"
SYSCTL = "net.ipv4.ip_forward = 1\n"
LINK = 'for name; do ln -sfn "$0" "/usr/local/bin/$name"; done'


def prepare(machine: Machine, settings: Settings, facts: Facts, program: Path | None) -> bool:
    """Make one machine ready; True when anything changed."""
    changed = [binaries(machine, settings.cluster.version, facts, program), runtime(machine, settings, facts)]
    unit = files("platformlib.clusters.kubeadm").joinpath("files/kubelet.service").read_text("utf-8")
    if machine.write("/etc/systemd/system/kubelet.service", unit):
        machine.run(["systemctl", "daemon-reload"])
        changed.append(True)
    machine.run(["systemctl", "enable", "--quiet", "kubelet"])
    return any(changed)


def binaries(machine: Machine, version: str, facts: Facts, program: Path | None) -> bool:
    """Kubernetes' programs: from the bundle's one binary, or those that the machine has."""
    if program is None:
        if facts.kubelet == version:
            return False
        fix = f"install kubelet, kubeadm and kubectl {version} there, or build a bundle: platformlib bundle build"
        raise NodeError(machine.name, f"kubelet is {facts.kubelet or 'not installed'}, {version} is wanted", fix=fix)
    target = f"{LIBRARY}/kubernetes-{version}"
    sent = machine.upload(program, target)
    machine.run(["sh", "-c", LINK, target, *PROGRAMS])
    return sent


def runtime(machine: Machine, settings: Settings, facts: Facts) -> bool:
    """containerd with the mirror, and forwarding between pods; restarted only when its configuration changed."""
    changed = machine.write("/etc/containerd/config.toml", config.containerd_config(facts))
    mirrored = mirror(machine, settings)  # read at every pull, so no restart
    routed = machine.write("/etc/sysctl.d/90-platformlib.conf", SYSCTL)
    machine.run(["sysctl", "-q", "-p", "/etc/sysctl.d/90-platformlib.conf"])
    if changed:
        machine.run(["systemctl", "restart", "containerd"])
    return changed or mirrored or routed


def mirror(machine: Machine, settings: Settings) -> bool:
    """Point containerd at the mirror, or take an earlier one away."""
    path = "/etc/containerd/certs.d/_default/hosts.toml"
    if url := settings.registry.mirror:
        return machine.write(path, config.mirror_config(str(url)))
    done = machine.shell('[ -e "$1" ] && rm "$1" && echo removed || true', path)
    return done.strip() == "removed"
