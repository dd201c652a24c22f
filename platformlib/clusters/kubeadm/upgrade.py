"""Moving a cluster to another version: a snapshot of etcd, the control plane, then one node after the other, drained.

What is done already is read from the nodes, so an interrupted upgrade is continued by running it again. A node is
touched only while all others are Ready, and one that could not be moved gets its former kubelet back. An annotation
says which nodes were cordoned from here: `release` gives them back, whatever was interrupted.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from platformlib.clusters.driver import OnEvent
from platformlib.clusters.kubeadm.config import CONTAINER_IGNORES
from platformlib.clusters.kubeadm.install import LIBRARY, LINK, LOCK, Program, program
from platformlib.clusters.kubectl import CONTROL_PLANE, CORDONED, Kubectl, Member, wait
from platformlib.clusters.table import Row, steps
from platformlib.errors import ClusterError, PlatformError
from platformlib.machines import Machine, each
from platformlib.machines.facts import Facts

SNAPSHOTS, KEEP = "/var/lib/platformlib/kubeadm", 3
READY = 300.0  # seconds until a node or the API server must be ready
RESTART = 45.0  # seconds that an API server may take to restart
APPLY = 900.0  # seconds for one kubeadm
LAG = 3  # minor versions that a kubelet may be older
PROGRAMS = ("kubelet", "kubeadm", "kubectl")
PKI = "/etc/kubernetes/pki/etcd"
# $1 the version that wrote the data. etcd's own consistent snapshot, by its gateway, as no etcdctl need be there; its
# last 32 bytes are the SHA-256 of the rest. The manifests belong to it. A copy that was cut off stays `.partial`.
SAVE = f"""set -eu
{LOCK}
umask 077; mkdir -p {SNAPSHOTS}; cd {SNAPSHOTS}
rm -rf .*.partial
id=$(date -u +%Y%m%dT%H%M%SZ)-$1; new=.$id.partial; mkdir $new
own={LIBRARY}/bin/kubectl; [ -x $own ] || own=kubectl
echo '{{}}' | "$own" --kubeconfig /dev/null --server https://127.0.0.1:2379 --certificate-authority {PKI}/ca.crt \\
  --client-certificate {PKI}/healthcheck-client.crt --client-key {PKI}/healthcheck-client.key \\
  create --raw /v3/maintenance/snapshot -f - | sed -n 's/.*"blob":"\\([^"]*\\)".*/\\1/p' | base64 -d > $new/whole
size=$(($(stat -c %s $new/whole) - 32))
[ $size -gt 0 ] || {{ echo "etcd gave no snapshot" >&2; exit 49; }}
head -c $size $new/whole > $new/snapshot.db
sum=$(tail -c 32 $new/whole | od -An -tx1 -v | tr -d ' \\n')
[ "$(sha256sum < $new/snapshot.db | cut -c1-64)" = "$sum" ] || {{ echo "etcd's snapshot is incomplete" >&2; exit 49; }}
rm $new/whole
cp -a /etc/kubernetes/manifests $new/manifests; echo "$1" > $new/version
sync; mv $new $id
ls -d */ | sort | head -n -{KEEP} | xargs -r rm -rf
echo "$id"
"""
LIST = f"""for path in $(ls -d {SNAPSHOTS}/*/ 2>/dev/null | sort); do
  [ -e $path/version ] && echo "$(basename $path) $(cat $path/version) $(stat -c %s $path/snapshot.db)"
done
true"""
# $1 a snapshot's id, $2 `missing` or `all`: manifests of the control plane that are put back from it.
MANIFESTS = f"""set -eu
cd "{SNAPSHOTS}/$1/manifests"
for name in etcd kube-apiserver kube-controller-manager kube-scheduler; do
  own=/etc/kubernetes/manifests/$name.yaml
  [ -e $name.yaml ] || continue
  if [ -e $own ] && {{ [ "$2" = missing ] || cmp -s $name.yaml $own; }}; then continue; fi
  cp -a $name.yaml /etc/kubernetes/.$name.platformlib; mv -f /etc/kubernetes/.$name.platformlib $own; echo $name
done"""
# $1 the program, then kubeadm's arguments. The lock lets a run whose connection was lost end before the next begins.
KUBEADM = f"""set -eu
{LOCK}
folder=$(mktemp -d); trap 'rm -rf $folder' EXIT
ln -s "$1" $folder/kubeadm; shift
log=/var/log/kubeadm-upgrade.log
$folder/kubeadm "$@" > $log 2>&1 9>&- || {{ tail -n 25 $log >&2; exit 1; }}
"""
# Programs that stay, of those in the library: the version that runs, and the one before it.
PRUNE = f"""for path in {LIBRARY}/kubernetes-*; do
  for keep; do [ "$path" = "$keep" ] && continue 2; done
  rm -f "$path"
done"""
Step = Callable[[Machine], bool]


@dataclass(frozen=True, order=True)
class Snapshot:
    """One copy of etcd on the control plane: its id begins with its time in UTC; `size` in bytes."""

    id: str
    version: str
    size: int


def snapshots(control_plane: Machine) -> list[Snapshot]:
    """The complete ones, the oldest first."""
    rows = (line.split() for line in control_plane.shell(LIST).splitlines())
    return [Snapshot(name, version, int(size)) for name, version, size in rows]


def parse(version: str) -> tuple[int, ...]:
    """`v1.35.4` as numbers."""
    return tuple(map(int, version.lstrip("v").split("-")[0].split("+")[0].split(".")))


def refuse(api: str, kubelets: Iterable[str], wanted: str, *, back: bool = False) -> None:
    """Kubernetes moves up by one minor version at a time; back only within one. A kubelet may lag behind by three.

    Raises:
        ClusterError: the step is not allowed.
    """
    now, then = parse(api), parse(wanted)
    newest = max([api, *kubelets], key=parse)
    if back and any(parse(it)[:2] != then[:2] for it in (api, *kubelets)):
        fix = f"restore the snapshot of etcd that {SNAPSHOTS} has on the control plane, with the programs of {wanted}"
        raise ClusterError(f"{newest} cannot go back to {wanted}: the minor version differs", fix=fix)
    if then < parse(newest) and not back:
        raise ClusterError(f"{wanted} is older than {newest}", fix="rollback() goes back to the version before")
    if then[0] != now[0] or then[1] - now[1] > 1:
        fix = f"upgrade to v{now[0]}.{now[1] + 1} first"
        raise ClusterError(f"{api} to {wanted} skips a minor version", fix=fix)
    for kubelet in kubelets:
        if then[1] - parse(kubelet)[1] > LAG:
            fix = f"upgrade that node to v{then[0]}.{then[1] - LAG} or later first"
            raise ClusterError(f"a kubelet of {kubelet} would lag behind {wanted} by more than {LAG} minor", fix=fix)


def before(found: list[Snapshot], newest: str) -> Snapshot:
    """The snapshot to go back to: the last one of an older version than the newest that runs.

    Raises:
        ClusterError: there is none.
    """
    older = [it for it in found if not newest or parse(it.version) < parse(newest)]
    if not older:
        fix = "only an upgrade that was begun can be rolled back"
        raise ClusterError(f"no snapshot of a version before {newest or 'this one'}", fix=fix)
    return older[-1]


@dataclass(frozen=True)
class Move:
    """One cluster on its way to `version`; `bundled` has its programs, unless the machines have them already."""

    kubectl: Kubectl
    control_plane: Machine
    workers: list[Machine]
    facts: Mapping[str, Facts]
    version: str
    bundled: Program | None
    on_event: OnEvent
    back: bool = False  # a rollback, which must work on a cluster that is not healthy

    @property
    def machines(self) -> list[Machine]:
        return [self.control_plane, *self.workers]

    def run(self) -> list[Row]:
        """All machines, one after the other.

        Raises:
            ClusterError: the cluster is not healthy, or a node could not be moved; nothing further was touched.
        """
        old = self.kubectl.version()
        release(self.kubectl)
        self._gate("before anything was changed")
        rows = self._step("programs", self.machines, self._upload)
        if old != self.version:
            rows += self._step("snapshot", [self.control_plane], lambda it: _save(it, old))
        rows += self._step("control plane", [self.control_plane], lambda _: self._apply(old))
        for machine in self.machines:
            rows += self._step("node", [machine], self._node)
            self._gate(f"after {machine.name}")
        if old != self.version and not self.back:
            each(self.machines, lambda it: it.change_shell(PRUNE, program(self.version), program(old)))
        return rows

    def plan(self) -> list[tuple[str, str, str]]:
        """node, step, action: what `run` would do."""
        members, name = self.kubectl.members(), self.control_plane.name
        rows = []
        if self.kubectl.version() != self.version:
            rows += [(name, "snapshot", "would save etcd"), (name, "control plane", f"would go to {self.version}")]
        for machine in self.machines:
            old = members[machine.name].version if machine.name in members else "unknown"
            to = "unchanged" if old == self.version else f"would be drained, {old} to {self.version}"
            rows.append((machine.name, "node", to))
        return rows

    def _step(self, name: str, machines: list[Machine], work: Step) -> list[Row]:
        self.on_event(f"{', '.join(machine.name for machine in machines)}: {name}, {self.version}")
        return steps(machines, name, work)

    def _upload(self, machine: Machine) -> bool:
        target = program(self.version)
        if self.bundled:
            return machine.upload(self.bundled.path, target)
        if not machine.run(["test", "-x", target], check=False).ok:
            raise ClusterError(f"{machine.name} has no {target} any more", fix=f"a bundle with {self.version}")
        return False

    def _apply(self, old: str) -> bool:
        """`kubeadm upgrade apply`, which can be repeated: it moves what is not there yet."""
        if old == self.version and self._recorded() == self.version:
            return False
        self._kubeadm(self.control_plane, "apply", "--yes", self.version)
        wait(lambda: _silent(self.kubectl), "the API server is not ready", READY)
        return True

    def _recorded(self) -> str:
        """The version of kubeadm's own record, which it writes when the control plane is there."""
        path = "jsonpath={.data.ClusterConfiguration}"
        told = self.kubectl.read("get", "configmap", "kubeadm-config", "-n", "kube-system", "-o", path).stdout
        lines = (line.partition(":") for line in told.splitlines())
        return next((value.strip() for key, _, value in lines if key == "kubernetesVersion"), "")

    def _kubeadm(self, machine: Machine, verb: str, *arguments: str) -> None:
        ignored = ",".join(CONTAINER_IGNORES) if self.facts[machine.name].in_container else ""
        extra = [f"--ignore-preflight-errors={ignored}"] if ignored else []
        machine.change_shell(KUBEADM, program(self.version), "upgrade", verb, *arguments, *extra, timeout=APPLY)

    def _node(self, machine: Machine) -> bool:
        """One node: drained, its kubelet exchanged, and given back; on a failure with the kubelet that it had."""
        name, members = machine.name, self.kubectl.members()
        former, member = _linked(machine), members[name]
        if member.version == self.version and former == program(self.version):
            return False
        try:
            if why := _undrained(member, members):
                self.on_event(f"{name}: not drained, as {why}")
            else:
                self._drain(member)
            if machine is not self.control_plane:
                self._kubeadm(machine, "node")
            self._switch(machine, program(self.version))
            wait(lambda: _behind(self.kubectl, name, self.version), f"{name} is not ready", READY)
        except BaseException:
            self._give_back(machine, former, member)
            raise
        release(self.kubectl, name)
        return True

    def _drain(self, member: Member) -> None:
        if not member.cordoned:
            self.kubectl.annotate(member.name, CORDONED, self.version)
        self.kubectl.drain(member.name)

    def _switch(self, machine: Machine, target: str) -> None:
        machine.change_shell(LINK, target, *PROGRAMS)
        machine.change(["systemctl", "restart", "kubelet"])

    def _give_back(self, machine: Machine, former: str, member: Member) -> None:
        """After a failure: the former kubelet, and the node uncordoned; what cannot be done now, the next run does."""
        with suppress(PlatformError):
            if former and _linked(machine) != former and machine.run(["test", "-x", former], check=False).ok:
                self._switch(machine, former)
                wait(lambda: _behind(self.kubectl, machine.name, member.version), f"{machine.name} is not ready", READY)
        with suppress(PlatformError):
            release(self.kubectl, machine.name)

    def _gate(self, when: str) -> None:
        if self.back:
            return
        names = [machine.name for machine in self.machines]
        wait(lambda: ill(self.kubectl, names), f"{when}, the cluster is not healthy", READY)


def _save(control_plane: Machine, version: str) -> bool:
    return bool(control_plane.change_shell(SAVE, version, timeout=APPLY))


def _linked(machine: Machine) -> str:
    return machine.run(["readlink", "/usr/local/bin/kubelet"], check=False).stdout.strip()


def _undrained(member: Member, members: Mapping[str, Member]) -> str:
    """Why it makes no sense to drain a node; nothing where its pods have somewhere to go."""
    if not member.ready:
        return "it is not Ready, so that no pod would end there"
    control = f"{CONTROL_PLANE}=:NoSchedule"
    others = [it for it in members.values() if it.ready and not it.cordoned and control not in it.taints]
    return "" if any(it.name != member.name for it in others) else "no other node could take its pods"


def _behind(kubectl: Kubectl, name: str, version: str) -> str:
    """Why a node is not Ready in a version; nothing when it is."""
    member = kubectl.members()[name]
    if member.version != version:
        return f"it reports {member.version or 'no version'}, {version} is wanted"
    return "" if member.ready else member.cause


def ill(kubectl: Kubectl, names: list[str]) -> str:
    """Why the cluster may not be worked on; nothing when the API server and all nodes are ready."""
    if not kubectl.healthy():
        return f"the API server of {kubectl.machine.name} is not ready"
    members = kubectl.members()
    missing = [name for name in names if name not in members]
    if missing:
        return f"not in the cluster: {', '.join(missing)}"
    return "; ".join(f"{member.name}: {member.cause}" for member in members.values() if not member.ready)


def release(kubectl: Kubectl, *names: str) -> bool:
    """Uncordon the nodes that an upgrade has cordoned; True when there was one. Without names: all of them."""
    held = [it for it in kubectl.members().values() if CORDONED in it.annotations and (it.name in names or not names)]
    for member in held:
        if member.cordoned:
            kubectl.uncordon(member.name)
        kubectl.annotate(member.name, CORDONED, None)
    return bool(held)


def awaken(kubectl: Kubectl, control_plane: Machine) -> None:
    """Wait for the API server; manifests that an interrupted upgrade has moved away are put back first.

    Raises:
        ClusterError: it does not answer.
    """
    if kubectl.healthy():
        return
    if found := snapshots(control_plane):
        control_plane.change_shell(MANIFESTS, found[-1].id, "missing")
    try:
        wait(lambda: _silent(kubectl), "the API server is not ready", READY)
    except ClusterError as error:
        raise ClusterError(str(error), fix="rollback() brings it back as it was before the upgrade") from None


def revive(kubectl: Kubectl, control_plane: Machine, chosen: Snapshot) -> bool:
    """Make a control plane that an upgrade has broken answer again, as it was before; True when something was done.

    Its data stays: within one minor version the older programs read what the newer ones wrote.
    """
    with suppress(ClusterError):
        wait(lambda: _silent(kubectl), "the API server is not ready", RESTART)
        return False
    control_plane.change_shell(MANIFESTS, chosen.id, "all")
    if control_plane.run(["test", "-x", program(chosen.version)], check=False).ok:
        control_plane.change_shell(LINK, program(chosen.version), *PROGRAMS)
    control_plane.change(["systemctl", "restart", "kubelet"])
    wait(lambda: _silent(kubectl), "the API server is not ready", READY)
    return True


def _silent(kubectl: Kubectl) -> str:
    return "" if kubectl.healthy() else "it does not answer"
