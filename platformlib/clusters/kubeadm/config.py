"""What kubeadm, kubelet and containerd are told; pure functions of settings and facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from platformlib.clusters.kubectl import CONTROL_PLANE
from platformlib.machines.facts import Facts
from platformlib.settings import Node, Settings
from platformlib.versions import image

SOCKET = "unix:///run/containerd/containerd.sock"
CONTROL_PLANE_TAINT = f"{CONTROL_PLANE}:NoSchedule"
# In a container these look at a kernel that belongs to the host.
CONTAINER_IGNORES = ("SystemVerification", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables")


def init_config(settings: Settings, node: Node, facts: Facts) -> str:
    """The documents for `kubeadm init`."""
    network = settings.cluster.network
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": str(node.address)},
            "nodeRegistration": registration(node, facts, taints(settings, node)),
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": settings.name,
            "kubernetesVersion": settings.cluster.version,
            "networking": {"podSubnet": str(network.pods), "serviceSubnet": str(network.services)},
            "dns": dict(zip(("imageRepository", "imageTag"), _split(image("coredns")), strict=True)),
            "etcd": {"local": {"imageTag": _split(image("etcd"))[1], "dataDir": "/var/lib/etcd"}},
        },
        kubelet_config(facts),
        proxy_config(facts),
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


@dataclass(frozen=True)
class Invitation:
    """What lets a machine join; its token is a secret."""

    server: str
    token: str = field(repr=False)
    ca_hash: str


def join_config(node: Node, facts: Facts, invitation: Invitation) -> str:
    """The document for `kubeadm join`; holds a token, so it is never logged and soon deleted."""
    discovery = {
        "apiServerEndpoint": invitation.server,
        "token": invitation.token,
        "caCertHashes": [invitation.ca_hash],
    }
    document = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": discovery},
        "nodeRegistration": registration(node, facts, node.taints),
    }
    return yaml.safe_dump(document, sort_keys=False)


def taints(settings: Settings, node: Node) -> list[str]:
    """The taints that a node should have. Without workers the control plane carries the workloads."""
    workers = any(other.role == "worker" for other in settings.cluster.nodes)
    own = [CONTROL_PLANE_TAINT] if node.role == "control-plane" and workers else []
    return [*own, *node.taints]


def registration(node: Node, facts: Facts, wanted: Sequence[str]) -> dict[str, Any]:
    """How a machine presents itself to the cluster. Taints from the first moment on: no pod may slip in before."""
    return {
        "name": node.name,
        "criSocket": SOCKET,
        "ignorePreflightErrors": list(CONTAINER_IGNORES) if facts.in_container else [],
        "kubeletExtraArgs": [{"name": "node-ip", "value": str(node.address)}],
        "taints": [_taint(text) for text in wanted],  # an empty list keeps kubeadm from adding its own
    }


def _taint(text: str) -> dict[str, str]:
    """`key=value:effect`, or `key:effect`."""
    name, effect = text.rsplit(":", 1)
    key, _, value = name.partition("=")
    return {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}


def kubelet_config(facts: Facts) -> dict[str, Any]:
    """kubelet's part that depends on what the machine is."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd" if facts.cgroup == 2 else "cgroupfs",  # noqa: PLR2004 - the version's name
        "containerLogMaxSize": "20Mi",
        "containerLogMaxFiles": 3,
    }
    if facts.cgroup == 1:
        config["failCgroupV1"] = False
    if not facts.oom:
        config["oomScoreAdj"] = 0
    if facts.memory_limit < facts.memory:
        # kubelet sees the host's memory; what the machine may not use is reserved, so that it is not given out.
        config["systemReserved"] = {"memory": str(facts.memory - facts.memory_limit)}
    if facts.in_container:
        # The disk is the host's: how full it is says nothing about this machine, and collecting
        # images would only delete the pause image below running pods.
        config["imageGCHighThresholdPercent"], config["imageGCLowThresholdPercent"] = 100, 99
        config["evictionHard"] = {"imagefs.available": "1%", "nodefs.available": "1%", "memory.available": "100Mi"}
    return config


def proxy_config(facts: Facts) -> dict[str, Any]:
    """kube-proxy; in a container the connection tracking limits are the host's and read-only."""
    config: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "metricsBindAddress": "0.0.0.0:10249",
    }
    if facts.in_container:
        config["conntrack"] = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return config


def containerd_config(facts: Facts) -> str:
    """containerd 1.6's configuration, version 2 of its format; 1.7 and 2.x read it too."""
    return f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image("pause")}"
  restrict_oom_score_adj = {str(not facts.oom).lower()}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = {str(facts.cgroup == 2).lower()}
"""  # noqa: PLR2004 - the version's name


def mirror_config(mirror: str) -> str:
    """containerd's `hosts.toml` for every registry: the mirror first, upstream where it lacks an image."""
    return f"""[host."{mirror.rstrip("/")}"]
  capabilities = ["pull", "resolve"]
"""


def _split(reference: str) -> tuple[str, str]:
    """`registry.k8s.io/coredns/coredns:v1` as the repository above the image, and the tag."""
    repository, tag = reference.rsplit(":", 1)
    return repository.rsplit("/", 1)[0], tag
