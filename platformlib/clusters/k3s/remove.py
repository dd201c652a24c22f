"""Taking k3s off a machine, and saying what is left.

Only what k3s made goes: its own chains, sets and links by their names, never a whole table; the machine's firewall,
other containers' networks and the volumes of pods stay. Upstream's script takes the volumes too.
"""

from platformlib.clusters.k3s import layout
from platformlib.machines import Machine

SHIMS = rf"^{layout.DATA}/data/[^/]+/bin/containerd-shim"
CHAINS = "KUBE-|CNI-|FLANNEL-"
RULES = rf"^:({CHAINS})|^(\[[0-9:]+\] )?-[AI] ({CHAINS})|-[jg] ({CHAINS})|--comment \"kube-router netpol"
SETS = r"^(inet6:)?(KUBE-|kube-router-)"
REMOVE = rf"""
exec 9> /run/platformlib.lock; flock 9
[ -e {layout.MARK} ] || exit 0
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
for tool in kubectl crictl ctr; do
  [ "$(readlink /usr/local/bin/$tool)" = k3s ] && rm -f /usr/local/bin/$tool
done
rm -rf /etc/rancher/k3s /etc/rancher/node /run/k3s /run/flannel {layout.STARTED} /var/log/k3s-restore.log
rm -rf /var/lib/kubelet/* /var/lib/cni/networks/cbr0 /var/lib/cni/results/cbr0-* /var/lib/cni/flannel
rmdir /etc/rancher /var/lib/cni/networks /var/lib/cni/results /var/lib/cni 2>/dev/null
for path in {layout.DATA}/* {layout.DATA}/.[!.]*; do
  [ "$path" = {layout.DATA}/storage ] && [ -n "$(ls -A "$path")" ] && continue
  rm -rf --one-file-system "$path"
done
rmdir {layout.DATA} /var/lib/rancher 2>/dev/null
rm -rf {layout.SNAPSHOTS.rsplit("/", 1)[0]} {layout.LIBRARY} {layout.SYSCTL}
rm -f {layout.BINARY} /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service
systemctl daemon-reload
rm -f {layout.LABELLED} {layout.DRAINED} {layout.MARK}
rmdir /etc/platformlib /usr/local/lib/platformlib 2>/dev/null
echo changed
"""
LEFT = rf"""
pgrep -f '^{layout.BINARY} (server|agent)|{SHIMS}' | sed 's/^/process /'
awk '$2 ~ "^(/run/k3s|/var/lib/kubelet/|{layout.DATA}/)" {{print "mount " $2}}' /proc/mounts
ip -o link show | awk -F'[ :@]+' '$2 ~ /^(cni0|flannel|kube-)/ {{print "link " $2}}'
ip netns list 2>/dev/null | awk '/^cni-/{{print "network namespace " $1}}'
for tool in iptables ip6tables; do
  $tool-save 2>/dev/null | grep -E '^:({CHAINS})' | awk -v tool=$tool '{{print tool " chain " substr($1,2)}}'
done
ipset list -n 2>/dev/null | grep -E '{SETS}' | sed 's/^/ipset /'
for path in {layout.BINARY} /etc/rancher {layout.MARK} {layout.DATA} {layout.SNAPSHOTS} {layout.LIBRARY}; do
  [ -e "$path" ] && echo "file $path"
done
[ -d {layout.DATA}/storage ] && echo "volumes in {layout.DATA}/storage, kept: $(ls {layout.DATA}/storage | wc -l)"
true
"""


def remove(machine: Machine) -> bool:
    """Take k3s off; True when there was something of ours. Volumes of pods are left in place."""
    return machine.shell(REMOVE, timeout=300).strip().endswith("changed")


def leftovers(machine: Machine) -> list[str]:
    """What is still there: processes, mounts, links, namespaces, chains, sets, files, volumes."""
    return machine.shell(LEFT).splitlines()
