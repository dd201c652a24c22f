"""The options of config.yaml that k3s documents (`k3s server --help`, `k3s agent --help`), and whose they are."""

from typing import Literal

Packaged = Literal["coredns", "servicelb", "traefik", "local-storage", "metrics-server"]
"""What `disable` can leave out."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Options of an agent; a server, being an agent too, takes them as well.
AGENT_OPTIONS = _words("""
    alsologtostderr bind-address container-runtime-endpoint data-dir debug default-runtime disable-apiserver-lb
    disable-default-registry-endpoint docker enable-pprof flannel-cni-conf flannel-conf flannel-iface
    image-credential-provider-bin-dir image-credential-provider-config image-service-endpoint kube-proxy-arg kubelet-arg
    lb-server-port log node-external-dns node-external-ip node-internal-dns node-ip node-label node-name node-taint
    nonroot-devices pause-image prefer-bundled-bin private-registry protect-kernel-defaults resolv-conf rootless
    selinux server snapshotter token token-file v vmodule vpn-auth vpn-auth-file with-node-id
""")
SERVER_OPTIONS = (AGENT_OPTIONS - {"disable-apiserver-lb"}) | _words("""
    advertise-address advertise-port agent-token agent-token-file cluster-cidr cluster-dns cluster-domain cluster-init
    cluster-reset cluster-reset-restore-path datastore-cafile datastore-certfile datastore-endpoint datastore-keyfile
    default-local-storage-path disable disable-cloud-controller disable-helm-controller disable-kube-proxy
    disable-network-policy disable-scheduler egress-selector-mode embedded-registry etcd-arg etcd-disable-snapshots
    etcd-expose-metrics etcd-s3 etcd-s3-access-key etcd-s3-bucket etcd-s3-config-secret etcd-s3-endpoint
    etcd-s3-endpoint-ca etcd-s3-folder etcd-s3-insecure etcd-s3-proxy etcd-s3-region etcd-s3-secret-key
    etcd-s3-skip-ssl-verify etcd-s3-timeout etcd-snapshot-compress etcd-snapshot-dir etcd-snapshot-name
    etcd-snapshot-retention etcd-snapshot-schedule-cron flannel-backend flannel-external-ip flannel-ipv6-masq
    helm-job-image https-listen-port kube-apiserver-arg kube-cloud-controller-manager-arg kube-controller-manager-arg
    kube-scheduler-arg secrets-encryption secrets-encryption-provider service-cidr service-node-port-range
    servicelb-namespace supervisor-metrics system-default-registry tls-san tls-san-security write-kubeconfig
    write-kubeconfig-group write-kubeconfig-mode
""")
# The driver's own: set elsewhere in the parameters, a secret, or what the driver's work relies on.
OWNED = _words("""
    agent-token agent-token-file cluster-cidr cluster-init cluster-reset cluster-reset-restore-path data-dir
    datastore-cafile datastore-certfile datastore-endpoint datastore-keyfile disable docker
    disable-default-registry-endpoint etcd-s3-access-key etcd-s3-secret-key etcd-snapshot-dir https-listen-port
    node-ip node-label node-name node-taint private-registry protect-kernel-defaults rootless secrets-encryption server
    service-cidr tls-san token token-file vpn-auth with-node-id write-kubeconfig write-kubeconfig-mode
""")
EXTRA_OPTIONS = SERVER_OPTIONS - OWNED
