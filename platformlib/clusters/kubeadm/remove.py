"""Taking Kubernetes off a machine, and saying what is left."""

from platformlib.machines import Machine

# kubeadm's reset leaves mounts, links, rules and files of the CNI behind; only what Kubernetes made is removed.
REMOVE = r"""
exec 9> /run/platformlib.lock; flock 9
marks=/etc/platformlib/kubeadm
[ -e $marks.started ] || [ -e $marks.done ] || exit 0
touch $marks.started; rm -f $marks.done
kubeadm reset --force > /var/log/kubeadm-reset.log 2>&1 9>&-
systemctl disable --now --quiet kubelet 2>/dev/null
for id in $(ctr -n k8s.io tasks ls -q 2>/dev/null); do
  ctr -n k8s.io tasks kill -s KILL "$id" >/dev/null 2>&1
done
sleep 1
for id in $(ctr -n k8s.io containers ls -q 2>/dev/null); do ctr -n k8s.io containers rm "$id" >/dev/null 2>&1; done
for mount in $(awk '$2 ~ "^/var/lib/kubelet/" {print $2}' /proc/mounts | sort -r); do umount "$mount"; done
for link in $(ip -o link show master kube-bridge 2>/dev/null | awk -F'[ :@]+' '{print $2}'); do
  ip link delete "$link"
done
for link in kube-bridge kube-dummy-if; do ip link delete "$link" 2>/dev/null; done
for link in $(ip -o link show type ipip | awk -F'[ :@]+' '$2 ~ /^tun-/ {print $2}'); do ip link delete "$link"; done
# Only the rules and sets that Kubernetes made: the machine's own firewall stays as it is.
for tool in iptables ip6tables; do
  $tool-save 2>/dev/null | grep -vE 'KUBE-|CNI-' | $tool-restore 2>/dev/null
done
for set in $(ipset list -n 2>/dev/null | grep -E '^(inet6:)?(KUBE-|kube-router-)'); do ipset destroy "$set"; done
ip rule delete table 77 2>/dev/null; ip route flush table 77 2>/dev/null
rm -rf /etc/cni/net.d/*kuberouter* /var/lib/cni /etc/kubernetes /var/lib/kubelet/* /var/lib/etcd/* /var/lib/kube-router
rm -rf /usr/local/lib/platformlib /usr/local/bin/kubelet /usr/local/bin/kubeadm /usr/local/bin/kubectl
rm -f /etc/systemd/system/kubelet.service /etc/sysctl.d/90-platformlib.conf /etc/containerd/certs.d/_default/hosts.toml
systemctl daemon-reload
rm -rf /etc/platformlib; echo changed
"""
LEFT = r"""
pgrep -x 'kubelet|kube-apiserver|etcd|kube-proxy|kube-router' | sed 's/^/process /'
awk '$2 ~ "^/var/lib/kubelet/" {print "mount " $2}' /proc/mounts
ip -o link show | awk -F'[ :@]+' '$2 ~ /^(veth|kube-|tun-)/ {print "link " $2}'
iptables-save 2>/dev/null | grep -E '^:(KUBE|CNI)-' | awk '{print "iptables chain " substr($1,2)}'
for path in /etc/kubernetes /etc/platformlib /etc/cni/net.d/*; do [ -e "$path" ] && echo "file $path"; done
true
"""


def remove(machine: Machine) -> bool:
    """Take Kubernetes off; True when there was something of ours. Volumes of pods are left in place."""
    return machine.shell(REMOVE, timeout=180).strip().endswith("changed")


def leftovers(machine: Machine) -> list[str]:
    """What is still there: processes, mounts, links, iptables chains, files."""
    return machine.shell(LEFT).splitlines()
