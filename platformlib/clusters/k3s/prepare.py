"""What stands on a machine before k3s starts: binary, images, configuration, unit, kernel settings."""

from platformlib.clusters.k3s import config, hardening, layout, service
from platformlib.clusters.k3s.artifacts import Release
from platformlib.nodes import Machine
from platformlib.nodes.facts import Facts
from platformlib.settings import Node, Settings

PRIVATE = 0o600
LINK = 'ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2"'
TOOLS = """for tool in kubectl crictl ctr; do
  [ -e /usr/local/bin/$tool ] || command -v $tool >/dev/null || ln -s k3s /usr/local/bin/$tool
done"""
# Only the driver's own file is ever taken away: others in the folder are the user's.
IMAGES = 'for file in "$1"/platformlib-*; do [ "$file" = "$2" ] || rm -f "$file"; done'
DROP = '[ -e "$1" ] && rm -f "$1" && echo changed || true'


def prepare(machine: Machine, settings: Settings, node: Node, facts: Facts, release: Release) -> bool:
    """Make one machine ready; True when anything changed. Nothing is started."""
    marked = machine.write(layout.MARK, settings.name)
    sent = program(machine, release)
    if machine.run(["test", "-e", layout.BINARY], check=False).status:
        switch(machine, release.version)
    return any([marked, sent, images(machine, release), *_files(machine, settings, node, facts)])


def program(machine: Machine, release: Release) -> bool:
    """Put the binary of a release beside the others; what runs is not touched."""
    return machine.upload(release.binary, layout.program(release.version))


def switch(machine: Machine, version: str) -> None:
    """Make a release that is on the machine the one that starts next."""
    machine.shell(LINK, layout.program(version), layout.BINARY)
    machine.shell(TOOLS)


def images(machine: Machine, release: Release) -> bool:
    """k3s's own images, in the folder from which it imports them at its start."""
    if release.images is None:
        return False
    suffix = release.images.name.split(".tar", 1)[1]
    target = f"{layout.IMAGES}/platformlib-{release.version}.tar{suffix}"
    sent = machine.upload(release.images, target, 0o644)
    machine.shell(IMAGES, layout.IMAGES, target)
    return sent


def _files(machine: Machine, settings: Settings, node: Node, facts: Facts) -> list[bool]:
    document = config.render(config.config(settings, node, facts))
    changed = [machine.write(layout.CONFIG, document, PRIVATE), _registries(machine, settings)]
    changed.append(service.install(machine, node))
    if settings.cluster.k3s.hardening:
        changed += _hardened(machine, node, facts)
    return changed


def _registries(machine: Machine, settings: Settings) -> bool:
    """The mirror, or an earlier one taken away."""
    if document := config.registries(settings):
        return machine.write(layout.REGISTRIES, document, PRIVATE)
    return machine.shell(DROP, layout.REGISTRIES).strip() == "changed"


def _hardened(machine: Machine, node: Node, facts: Facts) -> list[bool]:
    changed = []
    if not facts.in_container:
        changed.append(machine.write(layout.SYSCTL, hardening.sysctl()))
        machine.run(["sysctl", "-q", "-p", layout.SYSCTL])
    if node.role == "control-plane":
        machine.shell('mkdir -p "$1" && chmod 700 "$1" "${1%/*}"', layout.AUDIT_LOG.rsplit("/", 1)[0])
        changed.append(machine.write(layout.ADMISSION, hardening.admission(), PRIVATE))
        changed.append(machine.write(layout.AUDIT_POLICY, hardening.audit_policy(), PRIVATE))
    return changed
