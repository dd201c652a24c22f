"""Taking nodes out of a cluster that goes on, and k3s off machines.

A server leaves in one order, and one at a time: drained, stopped, held, its node deleted, its member gone from etcd,
then cleaned. A server that runs while its node is deleted is restarted by systemd, finds that it was removed, sets its
data aside and joins again.

Of a machine only what k3s made goes: its own chains, sets and links by their names, never a whole table; the machine's
firewall, other containers' networks, the volumes of pods and the snapshots stay.
"""

from collections.abc import Sequence
from functools import partial

from platformlib.clusters.k3s import layout, members, rollback, service
from platformlib.clusters.k3s.kubectl import Kubectl, Member
from platformlib.clusters.k3s.members import Seat
from platformlib.clusters.k3s.tasks import UNCHANGED, Task
from platformlib.errors import ClusterError
from platformlib.machines import Machine

SHIMS = rf"^{layout.DATA}/data/[^/]+/bin/containerd-shim"
CHAINS = "KUBE-|CNI-|FLANNEL-"
RULES = rf"^:({CHAINS})|^(\[[0-9:]+\] )?-[AI] ({CHAINS})|-[jg] ({CHAINS})|--comment \"kube-router netpol"
SETS = r"^(inet6:)?(KUBE-|kube-router-)"
# What k3s has brought along: iptables and ipset above all, which a machine may not have itself.
TOOLS = f"""for folder in {layout.DATA}/data/*/bin; do
  [ -d "$folder" ] && PATH=$PATH:$folder:$folder/aux
done
export PATH=$PATH:/usr/sbin:/sbin
"""
LOOK = rf"""
for tool in iptables ip6tables; do
  if command -v $tool-save >/dev/null 2>&1; then
    $tool-save 2>/dev/null | grep -E '^:({CHAINS})' | awk -v tool=$tool '{{print tool " chain " substr($1,2)}}'
  elif command -v nft >/dev/null 2>&1; then
    [ $tool = iptables ] && nft list ruleset 2>/dev/null | grep -E 'chain ({CHAINS})' | awk '{{print "nft chain " $2}}'
  elif [ $tool = iptables ] && [ -s /proc/net/ip_tables_names ]; then
    echo "rules that cannot be looked at: neither iptables nor nft is installed"
  fi
done
if command -v ipset >/dev/null 2>&1; then ipset list -n 2>/dev/null | grep -E '{SETS}' | sed 's/^/ipset /'; fi
"""
# $1 the platform's name, $2 what goes besides, of `volumes` and `snapshots`. Prints what of rules and sets is left,
# while k3s's own tools are still there to see it, then `changed`.
REMOVE = rf"""
exec 9> /run/platformlib.lock; flock 9
[ "$(cat {layout.MARK} 2>/dev/null)" = "$1" ] || exit 0
for unit in k3s k3s-agent; do
  systemctl disable --now --quiet $unit 9>&- 2>/dev/null
  systemctl reset-failed $unit 2>/dev/null
done
tree() {{ echo "$1"; for child in $(pgrep -P "$1"); do tree "$child"; done; }}
for shim in $(pgrep -f '{SHIMS}'); do kill -9 $(tree "$shim") 2>/dev/null; done
mounts() {{ awk -v top="$1" 'index($2, top) == 1 {{print $2}}' /proc/mounts | sort -r; }}
for top in /run/k3s /var/lib/kubelet/pods/ /var/lib/kubelet/plugins/ {layout.DATA}/; do
  for mount in $(mounts $top); do umount "$mount" 2>/dev/null || umount -l "$mount"; done
done
{TOOLS}
if ip link show cni0 >/dev/null 2>&1; then
  for link in $(ip -o link show master cni0 | awk -F'[ :@]+' '{{print $2}}'); do ip link delete "$link"; done
fi
for link in cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0 kube-bridge kube-dummy-if; do
  ip link delete $link 2>/dev/null
done
for space in $(ip netns list 2>/dev/null | awk '/^cni-/{{print $1}}'); do ip netns delete "$space"; done
for tool in iptables ip6tables; do
  $tool-save -c 2>/dev/null | grep -qE '{RULES}' || continue
  $tool-save -c | grep -vE '{RULES}' | $tool-restore -c
done
for set in $(ipset list -n 2>/dev/null | grep -E '{SETS}'); do ipset destroy "$set"; done
{LOOK}
for tool in kubectl crictl ctr; do
  [ "$(readlink /usr/local/bin/$tool)" = k3s ] && rm -f /usr/local/bin/$tool
done
rm -rf /etc/rancher/k3s /etc/rancher/node /run/k3s /run/flannel {layout.STARTED} /var/log/k3s-restore.log
rm -rf /var/lib/kubelet/* /var/lib/cni/networks/cbr0 /var/lib/cni/results/cbr0-* /var/lib/cni/flannel
rmdir /etc/rancher /var/lib/cni/networks /var/lib/cni/results /var/lib/cni 2>/dev/null
case " $2 " in *" volumes "*) rm -rf {layout.DATA}/storage ;; esac
case " $2 " in *" snapshots "*) rm -rf {layout.SNAPSHOTS} ;; esac
for path in {layout.DATA}/* {layout.DATA}/.[!.]*; do
  [ "$path" = {layout.DATA}/storage ] && [ -n "$(ls -A "$path" 2>/dev/null)" ] && continue
  rm -rf --one-file-system "$path"
done
rmdir {layout.DATA} /var/lib/rancher 2>/dev/null
for path in {layout.OWN}/* {layout.OWN}/.[!.]*; do
  [ "$path" = {layout.SNAPSHOTS} ] && [ -n "$(ls -A "$path" 2>/dev/null)" ] && continue
  rm -rf "$path"
done
rmdir {layout.OWN} /var/lib/platformlib 2>/dev/null
rm -rf {layout.LIBRARY} {layout.SYSCTL}
rm -f {layout.BINARY} /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service
rm -f /etc/systemd/system/k3s.service.env /etc/systemd/system/k3s-agent.service.env
systemctl daemon-reload
rm -f {layout.LABELLED} {layout.DRAINED} {layout.RESTORED} {layout.HOLD} {layout.MARK}
rmdir /etc/platformlib /usr/local/lib/platformlib 2>/dev/null
echo changed
"""
LEFT = rf"""
{TOOLS}
pgrep -f '^{layout.BINARY} (server|agent)|{SHIMS}' | sed 's/^/process /'
awk '$2 ~ "^(/run/k3s|/var/lib/kubelet/|{layout.DATA}/)" {{print "mount " $2}}' /proc/mounts
ip -o link show | awk -F'[ :@]+' '$2 ~ /^(cni0|flannel|kube-)/ {{print "link " $2}}'
ip netns list 2>/dev/null | awk '/^cni-/{{print "network namespace " $1}}'
{LOOK}
for path in {layout.BINARY} /etc/rancher {layout.MARK} {layout.DATA} {layout.LIBRARY}; do
  [ -e "$path" ] && echo "file $path"
done
kept() {{ [ -d "$1" ] && echo "$2 in $1, kept: $(ls "$1" | wc -l)"; }}
kept {layout.DATA}/storage volumes
kept {layout.SNAPSHOTS} snapshots
true
"""
DATA = frozenset({"volumes", "snapshots"})


def clean(machine: Machine, owner: str, data: Sequence[str] = ()) -> list[str] | None:
    """Take k3s off one machine.

    Args:
        owner: the platform's name; another's k3s is not touched.
        data: what goes besides: `volumes` of pods, `snapshots`. Nothing of them goes unless named.

    Returns:
        Rules and sets that are left; None where nothing of ours was found.
    """
    lines = machine.change_shell(REMOVE, owner, " ".join(data), timeout=300).splitlines()
    return lines[:-1] if lines and lines[-1] == "changed" else None


def leftovers(machine: Machine) -> list[str]:
    """What is still there: processes, mounts, links, namespaces, chains, sets, files, volumes, snapshots."""
    return machine.shell(LEFT).splitlines()


def refuse(seats: list[Seat], names: Sequence[str], lost: Sequence[str]) -> Seat:
    """Refuse a removal after which the cluster could not go on, before anything is touched.

    Args:
        seats: the machines that answer; `names` are those to be removed, `lost` those that do not answer.

    Returns:
        A server that stays and whose API server answers.

    Raises:
        ClusterError: no server would answer; no quorum; or a machine that does not answer here is alive in the cluster.
    """
    staying = [seat for seat in seats if seat.server and seat.state.datastore and seat.node.name not in names]
    speaker = members.speaker(staying)
    whole = "uninstall() takes down the whole cluster"
    if not staying or speaker is None:
        left = "no server would be left" if not staying else "no server's API answers"
        raise ClusterError(f"{left}: no quorum", fix=f"{whole}; else start a server first")
    kubectl = Kubectl(speaker.machine)
    known = kubectl.members()
    for name in set(names) & set(lost):
        if name in known and known[name].ready:
            raise ClusterError(
                f"{name} does not answer here, but it is a Ready node: it would join again while it is removed",
                fix="mend the way to it (SSH), or turn the machine off, then run this again",
            )
    _keeps_quorum(kubectl, known, names)
    return speaker


def _keeps_quorum(kubectl: Kubectl, known: dict[str, Member], names: Sequence[str]) -> None:
    """Each removal in turn needs a majority of the members that there are, without the one that is stopped."""
    members_now = kubectl.etcd()
    if learning := [member.name for member in members_now if member.learner]:
        raise ClusterError(
            f"{', '.join(learning)} is still joining etcd", fix="wait until it votes, then run this again"
        )
    nodes = [member.node for member in members_now]
    if ghosts := [member.name for member in members_now if member.node not in known and member.node not in names]:
        raise ClusterError(f"etcd has members without a node: {', '.join(ghosts)}", fix=members.ETCDCTL)
    for name in [name for name in nodes if name in names]:
        alive = [other for other in nodes if other != name and other in known and known[other].ready]
        if len(alive) <= len(nodes) // 2:
            raise ClusterError(
                f"without {name}, {len(alive)} of {len(nodes)} servers would run: no quorum",
                fix="uninstall() takes down the whole cluster; else let a rebuilt server join before the next leaves",
            )
        nodes.remove(name)


def leaving(seat: Seat, speaker: Seat, *, reached: bool, force: bool, data: Sequence[str]) -> list[list[Task]]:
    """One node out of the cluster, step by step; of a machine that does not answer, only the cluster's part.

    Args:
        reached: whether the machine answers.
        force: end pods as well that nothing starts again.
        data: what of the machine goes besides, see `clean`.
    """
    kubectl, name, machine = Kubectl(speaker.machine), seat.node.name, seat.machine
    drain = Task(machine, "drain", partial(_would_drain, kubectl, name), partial(_drain, kubectl, name, force=force))
    stop = Task(machine, "stop", "would stop k3s and keep it from starting", partial(_stop, seat))
    delete = Task(machine, "delete", f"would delete the node {name}", partial(_delete, kubectl, name))
    etcd = Task(machine, "etcd", "would wait until etcd has no such member", partial(_left, kubectl, name))
    steps = [*([drain] if reached else []), *([stop] if seat.state.owner else []), delete]
    steps += [etcd] if seat.server else []
    cleaned = [cleaning(seat, data)] if reached else []
    return [[step] for step in (*steps, *cleaned)]


def cleaning(seat: Seat, data: Sequence[str]) -> Task:
    """Take k3s off one machine that has left, or whose cluster is taken down."""
    words = ["its data and certificates", *data] if seat.state.owner else []
    would = f"would remove k3s, {', '.join(words)}" if words else UNCHANGED
    return Task(seat.machine, "remove", would, lambda: clean(seat.machine, seat.state.owner, data) is not None)


def _would_drain(kubectl: Kubectl, name: str) -> str:
    known = kubectl.members().get(name)
    if known is None or not known.ready:
        return "unchanged: the node is not Ready"
    pods = kubectl.pods(name)
    lost = "".join(f"; {pod.namespace}/{pod.name} loses {pod.lost}" for pod in pods if pod.lost)
    return f"would drain {len(pods)} pods{lost}"


def _drain(kubectl: Kubectl, name: str, *, force: bool) -> bool:
    known = kubectl.members().get(name)
    if known is None or not known.ready:
        return False
    kubectl.drain(name, force=force)
    return True


def _stop(seat: Seat) -> bool:
    rollback.hold(seat, f"uninstall {seat.node.name}")
    service.stop(seat.machine, seat.node.role)
    return True


def _delete(kubectl: Kubectl, name: str) -> bool:
    there = name in kubectl.members()
    kubectl.delete(name)
    return there


def _left(kubectl: Kubectl, name: str) -> bool:
    members.left_etcd(kubectl, name)
    return False
