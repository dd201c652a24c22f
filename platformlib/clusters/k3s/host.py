"""What stands on a machine before k3s starts: files, unit, binary, images, kernel settings. Nothing is started here."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from platformlib.clusters.k3s import config, hardening, layout
from platformlib.clusters.k3s.artifacts import Release
from platformlib.clusters.k3s.state import State
from platformlib.machines import Machine
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings
from platformlib.settings.references import resolve

# One line of standard input a file: path, mode, content in base64; so no content is ever an argument, which others on
# the machine can read. Mode `-` removes the file if platformlib wrote it. $1 `plan` only prints what would change.
# Each file is written beside its target and renamed. Prints the paths that changed.
WRITE = r"""set -eu
ours() { head -n 1 "$1" | grep -q '^# Written by platformlib'; }
while read -r path mode content; do
  if [ "$mode" = - ]; then
    if [ -e "$path" ] && ours "$path"; then [ "$1" = plan ] || rm -f "$path"; echo "$path"; fi
    continue
  fi
  if printf %s "$content" | base64 -d | cmp -s - "$path" && [ "$(stat -c %a "$path")" = "$mode" ]; then continue; fi
  if [ "$1" = write ]; then
    mkdir -p "$(dirname "$path")"
    new=$(mktemp "$path.XXXXXX")
    printf %s "$content" | base64 -d > "$new"; chmod "$mode" "$new"; sync "$new"; mv -f "$new" "$path"
  fi
  echo "$path"
done"""
# One line for each input of k3s. What it prints at a start is kept by the unit itself, so "restart needed" is a
# comparison of two texts: nothing is forgotten when a run is cut off between a changed file and the restart. The peer
# is left out: k3s reads it only while it has no data.
INPUTS = f"""#!/bin/sh
stat -L -c '%i %s %Y' {layout.BINARY}
for file in {layout.CONFIG} {layout.DROPINS}/*.yaml {layout.REGISTRIES} {layout.TRUST}/* {layout.TOKEN} \\
  {layout.AGENT_TOKEN} {layout.ADMISSION} {layout.AUDIT_POLICY} /etc/default/k3s /etc/default/k3s-agent \\
  /etc/sysconfig/k3s /etc/sysconfig/k3s-agent /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service \\
  /etc/systemd/system/k3s.service.env /etc/systemd/system/k3s-agent.service.env; do
  [ "$file" = {layout.PEER} ] || [ ! -f "$file" ] || sha256sum "$file"
done
ls -l --time-style=+ {layout.IMAGES} 2>/dev/null
true
"""
UNIT = f"""# Written by platformlib; a change here lasts until the next install.
[Unit]
Description=Lightweight Kubernetes ({{verb}})
Documentation=https://docs.k3s.io
Wants=network-online.target
After=network-online.target
# An interrupted restore must not be followed by a start: k3s would found an empty cluster.
ConditionPathExists=!{layout.HOLD}
# Servers wait for each other after a power failure: never give up.
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-/etc/systemd/system/%N.service.env
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStartPre=-/bin/sh -c '{layout.INPUTS} > {layout.STARTED}'
ExecStart={layout.BINARY} {{verb}}
# Pods outlive a restart of k3s.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
"""
# $1 the binary of a version, $2 where k3s is started from. The policy of SELinux knows only the latter as an ordinary
# file, so it is a second name of the first, or a copy on another file system, and never a link.
SWITCH = """set -eu
[ -x "$1" ]
if [ ! -L "$2" ] && [ "$1" -ef "$2" ]; then exit 0; fi
if [ ! -L "$2" ] && [ "$(stat -c %d "$1")" != "$(stat -c %d "$(dirname "$2")")" ] && cmp -s "$1" "$2"; then exit 0; fi
new="$(dirname "$2")/.k3s.platformlib"
rm -f "$new"; ln "$1" "$new" 2>/dev/null || { cp -p "$1" "$new"; sync "$new"; }
mv -fT "$new" "$2"
if command -v restorecon >/dev/null 2>&1; then restorecon "$2"; fi
echo changed
"""
# $1 the folder of the audit log.
TOOLS = """set -eu
for tool in kubectl crictl ctr; do
  [ -e /usr/local/bin/$tool ] || command -v $tool >/dev/null || ln -s k3s /usr/local/bin/$tool
done
if [ -d "${1%/*}" ]; then mkdir -p "$1"; chmod 700 "$1" "${1%/*}"; fi
"""
# $1 a folder, $2 the file there that stays of all that the driver has put there: others are the user's.
ONLY = 'for file in "$1"/platformlib-*; do [ "$file" = "$2" ] || rm -f "$file"; done'
# $1 a folder, $2… names: removes what the driver has put there and no longer wants.
STALE = """cd "$1" 2>/dev/null || exit 0
shift
for file in platformlib-*; do
  [ -e "$file" ] || continue
  for name; do [ "$file" = "$name" ] && continue 2; done
  rm -f "$file"; echo "$file"
done"""


@dataclass(frozen=True)
class File:
    """What a path should be: this content in this mode. `content` None: it should not be there, if it is ours."""

    path: str
    content: str | None
    mode: int = 0o600


def write(machine: Machine, files: list[File]) -> list[str]:
    """Make all files so, in their order; the paths that were changed."""
    return machine.change_shell(WRITE, "write", stdin=_lines(files), timeout=120).splitlines()


def differing(machine: Machine, files: list[File]) -> list[str]:
    """The paths that `write` would change; reads only."""
    return machine.shell(WRITE, "plan", stdin=_lines(files), timeout=120).splitlines()


def _lines(files: list[File]) -> str:
    return "".join(
        f"{file.path} - \n"
        if file.content is None
        else f"{file.path} {file.mode:o} {b64encode(file.content.encode()).decode()}\n"
        for file in files
    )


def wanted(settings: Settings, node: Node, facts: Facts, state: State) -> list[File]:
    """Every file of one machine, secrets included; the mark that the machine is this platform's comes first."""
    interface = state.interface_of(str(node.address))
    document = config.config(settings, node, facts, interface=interface, selinux=state.selinux == "enforcing")
    hard, k3s = settings.cluster.k3s.hardening, settings.cluster.k3s
    is_server = node.role == "control-plane"
    server, metal = hard and is_server, hard and not facts.in_container
    certificates = [
        File(path, resolve(reference, f"cluster.k3s.registries.access.{name}.{kind}") + "\n")
        for name in k3s.registries.access
        for kind, path, reference in config.trust(name, settings)
    ]
    return [
        File(layout.MARK, settings.name, 0o644),
        File(layout.CONFIG, config.render(document)),
        *certificates,
        File(layout.REGISTRIES, config.registries(settings)),
        File(layout.environment_file(node.role), config.environment(settings, node)),
        File(layout.INPUTS, INPUTS, 0o755),
        File(layout.unit_file(node.role), unit(node), 0o644),
        File(layout.SYSCTL, config.HEADER + hardening.sysctl() if metal else None, 0o644),
        File(layout.ADMISSION, config.HEADER + hardening.admission(hardening.unlabelled(settings)) if server else None),
        File(layout.AUDIT_POLICY, config.HEADER + hardening.audit_policy() if server else None),
        *(manifests(settings) if is_server else []),
    ]


def manifests(settings: Settings) -> list[File]:
    """What k3s itself applies, from its folder of manifests: the user's files, and values of packaged charts."""
    k3s = settings.cluster.k3s
    given = {path.name: Path(path).read_text("utf-8") for path in k3s.manifests}
    values = {f"{name}-values.yaml": config.chart(name, rest) for name, rest in k3s.chart_values.items()}
    return [File(f"{layout.MANIFESTS}/platformlib-{name}", text) for name, text in {**given, **values}.items()]


def unit(node: Node) -> str:
    """The systemd unit of a server or an agent."""
    return UNIT.format(verb="server" if node.role == "control-plane" else "agent")


def prepare(machine: Machine, files: list[File], state: State, release: Release) -> bool:
    """Make one machine ready; True when anything changed.

    A member keeps the version that it runs: only an upgrade or a rollback changes that. On a machine that is no member
    yet, the binary is always the release's, also after a failed install of another version.
    """
    changed: list[object] = [*write(machine, files), program(machine, release)]
    changed.append(switch(machine, state.version if state.member and state.version else release.version))
    machine.change_shell(TOOLS, layout.AUDIT_LOG.rsplit("/", 1)[0])
    names = [file.path.rsplit("/", 1)[1] for file in files if file.path.startswith(f"{layout.MANIFESTS}/")]
    changed += machine.change_shell(STALE, layout.MANIFESTS, *names).splitlines()
    if any(file.path == layout.SYSCTL and file.content for file in files):
        machine.change(["sysctl", "-q", "-p", layout.SYSCTL])
    changed.append(images(machine, release))
    return any(changed)


def plan(machine: Machine, files: list[File], version: str) -> str:
    """What `prepare` would do; reads only."""
    paths = differing(machine, files)
    parts = [f"would write {', '.join(paths)}"] if paths else []
    if not machine.run(["test", "-x", layout.program(version)], check=False).ok:
        parts.append(f"would put k3s {version} there")
    return "; ".join(parts) or "unchanged"


def program(machine: Machine, release: Release) -> bool:
    """Put the binary of a release beside the others; what runs is not touched."""
    return machine.upload(release.binary, layout.program(release.version))


def switch(machine: Machine, version: str) -> bool:
    """Make a release that is on the machine the one that starts next; True when it was another."""
    return machine.change_shell(SWITCH, layout.program(version), layout.BINARY, timeout=120).strip() == "changed"


def images(machine: Machine, release: Release) -> bool:
    """k3s's own images, in the folder from which it imports them at its start."""
    if release.images is None:
        return False
    suffix = release.images.name.split(".tar", 1)[1]
    target = f"{layout.IMAGES}/platformlib-{release.version}.tar{suffix}"
    sent = machine.upload(release.images, target, 0o644)
    machine.change_shell(ONLY, layout.IMAGES, target)
    return sent
