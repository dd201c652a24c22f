"""The cluster: nodes are there, and pods on all of them find and reach each other."""

from platformlib.checks import Check, Found
from platformlib.errors import KubeError
from platformlib.layers.proofs import probe
from platformlib.layers.proofs.context import Context, Object, pods_run, same

NAME = "platformlib-probe-network"
PORT = 8080
WITHIN = 120  # seconds, pulling the image on every node included

# Plain nc, since wget in a static glibc program looks up the protocol's port, and crashes without glibc's files.
# Each pod serves the name of its node, asks DNS for all the others, and is ready as long as it reaches them all.
SCRIPT = f"""
mkdir -p www && echo "$NODE" > www/node && httpd -p {PORT} -h www
ask() {{ printf 'GET /node HTTP/1.0\\r\\n\\r\\n' | nc -w 2 "$1" {PORT} | tail -n 1; }}
while true; do
  addresses=$(nslookup "$PEERS" 2>/dev/null | awk '/^Name:/ {{ found = 1 }} found && /^Address/ {{ print $NF }}')
  reached=$(for address in $addresses; do ask "$address"; done | sort -u | tr '\\n' ' ')
  echo "DNS found: $(echo $addresses); reached: $reached"
  if [ "$(echo $reached | wc -w)" -ge "$COUNT" ]; then touch ok; else rm -f ok; fi
  sleep 1
done
"""


def checks(context: Context) -> list[Check]:
    """Nodes, pods, network."""
    return [
        Check(
            "nodes",
            f"Ready: {', '.join(context.nodes)}",
            "kubectl describe node NAME; on the machine: journalctl -u kubelet -u containerd",
            lambda: _ready(context),
            patience=120,
        ),
        pods_run(context, "kube-system"),
        Check(
            "pod network",
            f"a pod on each of {len(context.nodes)} nodes finds the others by DNS and reaches them",
            "look at kube-router and CoreDNS: kubectl -n kube-system logs -l app.kubernetes.io/name=kube-router",
            lambda: _network(context),
        ),
    ]


def _ready(context: Context) -> Found:
    nodes = context.kube.list("v1", "Node")
    return same([node["metadata"]["name"] for node in nodes if _is_ready(node)], context.nodes)


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _objects(count: int) -> list[Object]:
    template = probe.pod(NAME, SCRIPT, {"PEERS": f"{NAME}.{probe.NAMESPACE}.svc.cluster.local", "COUNT": str(count)})
    template["spec"]["tolerations"] = [{"operator": "Exists"}]  # the control plane as well
    template["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["test", "-f", "ok"]}, "periodSeconds": 1, "timeoutSeconds": 5,
    }  # fmt: skip
    selector = {"app.kubernetes.io/name": NAME}
    # Pods that are not ready yet have to find each other, too.
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector, "ports": [{"port": PORT}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": probe.meta(NAME), "spec": service},
        {
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": probe.meta(NAME),
            "spec": {"selector": {"matchLabels": selector}, "template": template},
        },
    ]  # fmt: skip


def _network(context: Context) -> Found:
    objects = _objects(len(context.nodes))
    with probe.alone(context.kube, "network") as layer:
        context.kube.apply(objects, layer=layer)
        try:
            context.kube.wait(objects[1:], timeout=WITHIN)
        except KubeError as error:
            return False, f"{_said(context)} ({str(error).splitlines()[0]})"
        return True, f"{len(context.nodes)} pods, and each reached {', '.join(context.nodes)}"


def _said(context: Context) -> str:
    """The last word of each pod."""
    pods = context.kube.list("v1", "Pod", probe.NAMESPACE, label_selector=f"app.kubernetes.io/name={NAME}")
    return "; ".join(sorted(f"{pod['spec'].get('nodeName')}: {_last(context, pod)}" for pod in pods)) or "no pods"


def _last(context: Context, pod: Object) -> str:
    try:
        lines = context.kube.logs(probe.NAMESPACE, pod["metadata"]["name"], tail=1).splitlines()
    except KubeError as error:
        return str(error).splitlines()[0]
    return lines[-1] if lines else "nothing yet"
