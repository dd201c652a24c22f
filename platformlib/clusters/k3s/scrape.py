"""What the layers must know of k3s: which components it brings, and where metrics come from.

k3s is one process with one registry of metrics. The kubelet's port of a server therefore answers with the metrics of
the API server, the scheduler, the controller manager, the proxy and etcd's client as well, and each of their own
ports would answer with the same series again. So each node is scraped once, at the kubelet's port, and what belongs
to another component is told by the metric's name.
"""

from dataclasses import dataclass

# Component of this package's layers → what k3s has in its place; none of these is installed twice.
BROUGHT = {
    "kube-router": "flannel (pod network) and an embedded kube-router (NetworkPolicy), inside the k3s process",
    "coredns": "CoreDNS, Deployment kube-system/coredns",
    "metrics-server": "metrics-server, Deployment kube-system/metrics-server",
    "local-path-provisioner": "local-path-provisioner, default StorageClass local-path",
    "ingress": "Traefik, Deployment kube-system/traefik, and ServiceLB",
    "kube-proxy": "kube-proxy, inside the k3s process",
}
# `cluster.k3s.disable` leaves a packaged component out; then the layers' own may be installed.
PACKAGED = {
    "coredns": "coredns",
    "metrics-server": "metrics-server",
    "local-path-provisioner": "local-storage",
    "ingress": "traefik",
}


@dataclass(frozen=True)
class ScrapeProfile:
    """How Prometheus scrapes a distribution.

    `jobs` are scraped once for each node; `absent` are jobs that upstream's rules expect and that must have neither
    target nor alert; `derived` gives, for a job that is no target of its own, the metrics by which it is told.
    """

    jobs: tuple[str, ...]
    absent: tuple[str, ...]
    derived: dict[str, str]
    silenced: tuple[str, ...]


K3S = ScrapeProfile(
    jobs=("kubelet", "kubelet /metrics/cadvisor"),
    absent=("apiserver", "kube-scheduler", "kube-controller-manager", "kube-proxy", "kube-etcd"),
    derived={
        "apiserver": "apiserver_.*|aggregator_.*|authentication_.*|authorization_.*",
        "kube-scheduler": "scheduler_.*",
        "kube-controller-manager": "node_collector_.*|garbagecollector_.*|cronjob_controller_.*|endpoint_slice_.*",
        "kube-proxy": "kubeproxy_.*",
        "kube-etcd": "etcd_.*",
    },
    silenced=("KubeSchedulerDown", "KubeControllerManagerDown", "KubeProxyDown", "KubeAPIDown", "etcdMembersDown"),
)
