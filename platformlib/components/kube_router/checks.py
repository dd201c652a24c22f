"""Pods on all nodes find and reach each other, whoever makes the network."""

from platformlib.checks import Check, Found
from platformlib.components import proving
from platformlib.components.proving import Context, Object
from platformlib.errors import KubeError

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
    """A connection from each node to each."""
    return [
        Check(
            "pod network",
            f"a pod on each of {len(context.nodes)} nodes finds the others by DNS and reaches them",
            "look at kube-router and CoreDNS: kubectl -n kube-system logs -l app.kubernetes.io/name=kube-router",
            lambda: _network(context),
            anytime=True,
        ),
    ]


def _objects(count: int) -> list[Object]:
    template = proving.pod(
        NAME, SCRIPT, {"PEERS": f"{NAME}.{proving.NAMESPACE}.svc.cluster.local", "COUNT": str(count)}
    )
    template["spec"]["tolerations"] = [{"operator": "Exists"}]  # the control plane as well
    template["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["test", "-f", "ok"]}, "periodSeconds": 1, "timeoutSeconds": 5,
    }  # fmt: skip
    selector = {"app.kubernetes.io/name": NAME}
    # Pods that are not ready yet have to find each other, too.
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector, "ports": [{"port": PORT}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": proving.meta(NAME), "spec": service},
        {
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": proving.meta(NAME),
            "spec": {"selector": {"matchLabels": selector}, "template": template},
        },
    ]  # fmt: skip


def _network(context: Context) -> Found:
    objects = _objects(len(context.nodes))
    with proving.alone(context.kube, "network") as layer:
        context.kube.apply(objects, layer=layer)
        try:
            context.kube.wait(objects[1:], timeout=WITHIN)
        except KubeError as error:
            return False, f"{_said(context)} ({str(error).splitlines()[0]})"
        return True, f"{len(context.nodes)} pods, and each reached {', '.join(context.nodes)}"


def _said(context: Context) -> str:
    """The last line of each pod."""
    pods = context.kube.list("v1", "Pod", proving.NAMESPACE, label_selector=f"app.kubernetes.io/name={NAME}")
    return "; ".join(sorted(f"{pod['spec'].get('nodeName')}: {_last(context, pod)}" for pod in pods)) or "no pods"


def _last(context: Context, pod: Object) -> str:
    try:
        lines = context.kube.logs(proving.NAMESPACE, pod["metadata"]["name"], tail=1).splitlines()
    except KubeError as error:
        return str(error).splitlines()[0]
    return lines[-1] if lines else "nothing yet"
