"""What stands on a machine before k3s starts: binary, images, configuration, unit, kernel settings."""

from platformlib.clusters.k3s import config, files, hardening, layout, units
from platformlib.clusters.k3s.artifacts import Release
from platformlib.clusters.k3s.files import File
from platformlib.machines import Machine
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings

LINK = 'ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2"'
# A first install makes the link; later only an upgrade or a rollback moves it.
FIRST = """set -eu
[ -e "$1" ] || ln -sfn "$2" "$1"
for tool in kubectl crictl ctr; do
  [ -e /usr/local/bin/$tool ] || command -v $tool >/dev/null || ln -s k3s /usr/local/bin/$tool
done
if [ -d "${3%/*}" ]; then mkdir -p "$3"; chmod 700 "$3" "${3%/*}"; fi
"""
# Only the driver's own file is ever taken away: others in the folder are the user's.
IMAGES = 'for file in "$1"/platformlib-*; do [ "$file" = "$2" ] || rm -f "$file"; done'


def prepare(machine: Machine, settings: Settings, node: Node, facts: Facts, release: Release) -> bool:
    """Make one machine ready; True when anything changed. Nothing is started."""
    written = files.write(machine, wanted(settings, node, facts))
    sent = program(machine, release)
    machine.shell(FIRST, layout.BINARY, layout.program(release.version), layout.AUDIT_LOG.rsplit("/", 1)[0])
    if settings.cluster.k3s.hardening and not facts.in_container:
        machine.run(["sysctl", "-q", "-p", layout.SYSCTL])
    return any([written, sent, images(machine, release)])


def wanted(settings: Settings, node: Node, facts: Facts) -> list[File]:
    """Every file of one machine; the mark that it is this platform's comes first."""
    document = config.render(config.config(settings, node, facts))
    hard = settings.cluster.k3s.hardening
    server, metal = hard and node.role == "control-plane", hard and not facts.in_container
    return [
        File(layout.MARK, settings.name, 0o644),
        File(layout.CONFIG, document),
        File(layout.REGISTRIES, config.registries(settings)),
        File(layout.INPUTS, units.INPUTS, 0o755),
        File(units.path(node), units.text(node), 0o644),
        File(layout.SYSCTL, hardening.sysctl() if metal else None, 0o644),
        File(layout.ADMISSION, hardening.admission(hardening.unlabelled(settings)) if server else None),
        File(layout.AUDIT_POLICY, hardening.audit_policy() if server else None),
    ]


def program(machine: Machine, release: Release) -> bool:
    """Put the binary of a release beside the others; what runs is not touched."""
    return machine.upload(release.binary, layout.program(release.version))


def switch(machine: Machine, version: str) -> None:
    """Make a release that is on the machine the one that starts next."""
    machine.shell(LINK, layout.program(version), layout.BINARY)


def images(machine: Machine, release: Release) -> bool:
    """k3s's own images, in the folder from which it imports them at its start."""
    if release.images is None:
        return False
    suffix = release.images.name.split(".tar", 1)[1]
    target = f"{layout.IMAGES}/platformlib-{release.version}.tar{suffix}"
    sent = machine.upload(release.images, target, 0o644)
    machine.shell(IMAGES, layout.IMAGES, target)
    return sent
