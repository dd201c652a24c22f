"""k3s: one binary, one process a machine; SQLite on one server, or etcd on three."""

from platformlib.clusters.k3s.cluster import K3s

__all__ = ["K3s"]
