"""Taking Kubernetes off a machine, and what is left of it.

Only what Kubernetes or platformlib made is removed, by its name: the machine's own firewall rules, other containers'
networks, a user's kubectl, a user's static pods and the volumes of pods stay. A mount below kubelet's folder that
cannot be unmounted ends the work before anything there is deleted: what is mounted is somebody's data.
"""

from ipaddress import IPv4Network

from platformlib.clusters.kubeadm.install import (
    CONTAINERD,
    FORWARD,
    LIBRARY,
    LOCK,
    MARKS,
    MIRROR,
    ORIGINAL,
    PUT_BACK,
    SYSCTL,
    UNIT,
)
from platformlib.machines import Machine

KUBELET = "/var/lib/kubelet"
# Mount points below a folder, the innermost first, with spaces and the like as \040.
MOUNTS = """mounts() { awk -v top="$1/" 'index($5, top) == 1 {print $5}' /proc/self/mountinfo | sort -r; }"""
# The part of a table that Kubernetes, kube-router and the portmap plugin made, as input for `iptables-restore
# --noflush`: their chains, the rules that lead there, and the rules that kube-router puts into the kernel's own chains.
# Quoted comments are left out of the comparison, as a user's may mention a chain. The chains of host ports are shared
# with other container engines, and go when no container uses one.
RULES = r"""
function ours(chain) { return chain ~ /^KUBE-[A-Za-z0-9-]+$/ || (!ports && chain ~ /^CNI-HOSTPORT-[A-Z]+$/) }
function led(  i, n, word) {
  bare = $0; gsub(/"[^"]*"/, "", bare); n = split(bare, word, " ")
  for (i = 3; i < n; i++) if ((word[i] == "-j" || word[i] == "-g") && ours(word[i + 1])) return 1
  return 0
}
function routers() {
  return /^-A FORWARD -m comment --comment "allow outbound traffic from pods" -i kube-bridge -j ACCEPT$/ ||
    /^-A FORWARD -m comment --comment "allow inbound traffic to pods" -o kube-bridge -j ACCEPT$/ ||
    /^-A FORWARD -m comment --comment "allow outbound node port traffic on node interface [^"]*" -o [^ ]+ -j ACCEPT$/ ||
    /^-A FORWARD -o [^ ]+ -m comment --comment "allow outbound node port traffic on node interface [^"]*" -j ACCEPT$/ ||
    /^-A FORWARD -i kube-bridge -m comment --comment "allow outbound traffic from pods" -j ACCEPT$/ ||
    /^-A FORWARD -o kube-bridge -m comment --comment "allow inbound traffic to pods" -j ACCEPT$/ ||
    /^-A (INPUT|FORWARD|OUTPUT) -m comment --comment "KUBE-ROUTER rule to explicitly ACCEPT [^"]*" -m mark / ||
    /^-A POSTROUTING -m set --match-set (inet6:)?kube-router-pod-subnets src .*-j MASQUERADE/
}
/^:CNI-DN-/ { ports = 1 }
/^\*/ { table = $0; rules = ""; flush = ""; drop = ""; ports = 0 }
/^:/ { name = substr($1, 2); all[++count] = name }
/^-A / { if (!ours($2) && (led() || routers())) rules = rules "-D" substr($0, 3) "\n" }
/^COMMIT/ {
  for (i = 1; i <= count; i++) if (ours(all[i])) { flush = flush "-F " all[i] "\n"; drop = drop "-X " all[i] "\n" }
  if (rules drop != "") printf "%s\n%s%s%sCOMMIT\n", table, rules, flush, drop
  count = 0
}"""
SETS = r"^(inet6:)?(KUBE-|kube-router-)"
PORTS = "ip -o link show master kube-bridge 2>/dev/null | awk -F'[ :@]+' '{print $2}'"
TUNNELS = "ip -o link show type ipip 2>/dev/null | awk -F'[ :@]+' '$2 ~ /^tun-[0-9a-f]+$/ {print $2}'"
COMPONENTS = "etcd kube-apiserver kube-controller-manager kube-scheduler"
KUBECONFIGS = "admin super-admin kubelet bootstrap-kubelet controller-manager scheduler"
# $1 the range of pods.
REMOVE = rf"""
{LOCK}
marks={MARKS}
[ -e $marks.started ] || [ -e $marks.done ] || [ -e {ORIGINAL} ] || exit 0
{MOUNTS}
{PUT_BACK}
empty() {{ find "$1" -mindepth 1 -maxdepth 1 -exec rm -rf --one-file-system {{}} + 2>/dev/null; }}
mkdir -p /etc/platformlib; touch $marks.started; rm -f $marks.done
[ -z "$(systemctl cat kubelet 2>/dev/null)" ] || systemctl disable --now --quiet kubelet 9>&-
tasks() {{ timeout 30 ctr -n k8s.io tasks ls -q 2>/dev/null; }}
for id in $(tasks); do ctr -n k8s.io tasks kill -s TERM "$id" >/dev/null 2>&1; done
for second in 1 2 3 4 5 6 7 8 9 10; do
  [ -z "$(timeout 30 ctr -n k8s.io tasks ls 2>/dev/null | awk '$3 == "RUNNING"')" ] && break
  sleep 1
done
for id in $(tasks); do ctr -n k8s.io tasks kill -s KILL "$id" >/dev/null 2>&1; done
set -f
for mount in $(mounts {KUBELET}); do
  path=$(printf '%b.' "$(printf %s "$mount" | sed 's/\\/\\0/g')"); path=${{path%.}}
  said=$(umount "$path" 2>&1) && continue
  mounts {KUBELET} | grep -Fxq "$mount" || continue # it went together with another one
  echo "$said; nothing below {KUBELET} was deleted. See what uses it: fuser -vm '$path'; end that, then repeat" >&2
  exit 48
done
set +f
if [ -n "$(mounts {KUBELET})" ]; then echo "something is still mounted below {KUBELET}" >&2; exit 48; fi
# kubeadm's reset empties the folder of static pods: a user's own are put back.
kept=/etc/platformlib/static-pods
for path in /etc/kubernetes/manifests/*; do
  case " {COMPONENTS} " in *" $(basename "$path" .yaml) "*) continue ;; esac
  [ ! -e "$path" ] || {{ mkdir -p $kept; mv "$path" $kept/; }}
done
kubeadm reset --force > /var/log/kubeadm-reset.log 2>&1 9>&-
for id in $(timeout 30 ctr -n k8s.io containers ls -q 2>/dev/null); do
  ctr -n k8s.io tasks rm --force "$id" >/dev/null 2>&1
  ctr -n k8s.io containers rm "$id" >/dev/null 2>&1
done
for link in $({PORTS}) kube-bridge kube-dummy-if $({TUNNELS}); do
  ip link delete "$link" 2>/dev/null
done
for tool in iptables ip6tables; do
  rules=$($tool-save 2>/dev/null | awk '{RULES}')
  [ -z "$rules" ] || printf '%s\n' "$rules" | $tool-restore --noflush
done
for set in $(ipset list -n 2>/dev/null | grep -E '{SETS}'); do ipset destroy "$set"; done
ip route flush root "$1" proto 17 2>/dev/null # kube-router's routes to the pods of other machines
pods=$(sed -n 's/.*"subnet": *"\([0-9.]*\/[0-9]*\)".*/\1/p' /etc/cni/net.d/*kuberouter* 2>/dev/null | head -n 1)
if [ -n "$pods" ] && ip rule delete from "$pods" table 77 2>/dev/null; then ip route flush table 77 2>/dev/null; fi
rm -f /etc/cni/net.d/*kuberouter*
rm -rf /var/lib/cni/networks/kube-router /var/lib/cni/results/kube-router-* /var/lib/cni/results/cni-loopback-* \
  /var/lib/cni/cache/results/kube-router-* /var/lib/cni/cache/results/cni-loopback-*
for path in /var/lib/cni/networks /var/lib/cni/results /var/lib/cni/cache/results /var/lib/cni/cache /var/lib/cni \
    /opt/cni/bin /opt/cni; do
  [ ! -d $path ] || rmdir $path 2>/dev/null
done
empty {KUBELET}
rm -rf --one-file-system /var/lib/etcd/member /var/lib/kube-router /var/lib/platformlib/kubeadm
rm -rf /etc/kubernetes/pki /etc/kubernetes/tmp
for name in {KUBECONFIGS}; do rm -f /etc/kubernetes/$name.conf; done
for name in {COMPONENTS}; do rm -f /etc/kubernetes/manifests/$name.yaml; done
[ ! -d $kept ] || {{ mkdir -p /etc/kubernetes/manifests; mv $kept/* /etc/kubernetes/manifests/; rmdir $kept; }}
rmdir /etc/kubernetes/manifests /etc/kubernetes /var/lib/platformlib 2>/dev/null
for name in kubelet kubeadm kubectl; do
  case "$(readlink /usr/local/bin/$name)" in {LIBRARY}/*) rm -f /usr/local/bin/$name ;; esac
done
rm -rf {LIBRARY}/kubernetes-* {LIBRARY}/bin
rmdir {LIBRARY} 2>/dev/null
for path in {UNIT} {SYSCTL} {MIRROR}; do
  # An earlier version of platformlib has kept no originals: the files are its own.
  if [ -d {ORIGINAL} ]; then put_back $path; else rm -f $path; fi
done
[ ! -s {ORIGINAL}{FORWARD} ] || cat {ORIGINAL}{FORWARD} > {FORWARD}
if [ -e {ORIGINAL}{CONTAINERD} ] || [ -e {ORIGINAL}{CONTAINERD}.absent ]; then
  put_back {CONTAINERD}; systemctl try-restart containerd 9>&-
fi
systemctl daemon-reload
rmdir /etc/containerd/certs.d/_default /etc/containerd/certs.d 2>/dev/null
rm -rf $marks.* {ORIGINAL}
rmdir /etc/platformlib 2>/dev/null
echo changed
"""  # noqa: S608 - a shell script
# $1 the range of pods, $2 `left`, or `plan`: nothing where platformlib has installed nothing.
LEFT = rf"""
{MOUNTS}
[ -e {MARKS}.started ] || [ -e {MARKS}.done ] || [ -e {ORIGINAL} ] || [ "$2" = left ] || exit 0
pgrep -x 'kubelet|kube-apiserver|etcd|kube-proxy|kube-router' | sed 's/^/process /'
mounts {KUBELET} | sed 's/^/mount /'
for link in $({PORTS}) $({TUNNELS}); do
  echo "link $link"
done
for link in kube-bridge kube-dummy-if; do ip link show $link >/dev/null 2>&1 && echo "link $link"; done
for tool in iptables ip6tables; do
  $tool-save 2>/dev/null | awk '{RULES}' | sed -n "s/^-X /$tool chain /p; s/^-D /$tool rule in /p"
done
ip route show root "$1" proto 17 2>/dev/null | sed 's/^/route /'
ipset list -n 2>/dev/null | grep -E '{SETS}' | sed 's/^/ipset /'
for name in {KUBECONFIGS}; do [ ! -e /etc/kubernetes/$name.conf ] || echo "file /etc/kubernetes/$name.conf"; done
for path in /etc/kubernetes/pki /etc/cni/net.d/*kuberouter* /var/lib/etcd/member {LIBRARY} \
    {SYSCTL} {MARKS}.* {ORIGINAL} {KUBELET}/*; do
  [ -e "$path" ] && echo "file $path"
done
true
"""
SECONDS = 300.0


def remove(machine: Machine, pods: IPv4Network) -> bool:
    """Take Kubernetes off; True when there was something of platformlib's. Volumes of pods are left in place.

    Args:
        pods: the range of the cluster's pods.

    Raises:
        CommandFailed: something below kubelet's folder cannot be unmounted; nothing there was deleted.
    """
    return machine.change_shell(REMOVE, str(pods), timeout=SECONDS).strip().endswith("changed")


def leftovers(machine: Machine, pods: IPv4Network) -> list[str]:
    """What is still there: processes, mounts, links, rules and chains of iptables, routes, ipsets, files."""
    return machine.shell(LEFT, str(pods), "left").splitlines()


def plan(machine: Machine, pods: IPv4Network) -> list[str]:
    """What `remove` would take away; nothing where platformlib has installed nothing."""
    return machine.shell(LEFT, str(pods), "plan").splitlines()
