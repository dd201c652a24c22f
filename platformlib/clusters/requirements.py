"""What the layers need of a cluster that others installed, asked of its API. Changes nothing."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from platformlib.clusters.preflight import Finding
from platformlib.versions import versions

if TYPE_CHECKING:
    from platformlib.kube import Kube

OLDEST = 30  # minor version of Kubernetes: the first with ValidatingAdmissionPolicy in v1
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NOTHING_ELSE = "use the tool that installed the cluster"


def findings(kube: "Kube") -> Iterator[tuple[str, Finding]]:
    """The subject (a node, or `cluster`) and what was found about it, for the table of `preflight.conclude`."""
    yield from ((node, finding) for node, finding in _nodes(kube))
    yield from (("cluster", check(kube)) for check in (_version, _rights, _storage, _metrics, _api))


def _nodes(kube: "Kube") -> Iterator[tuple[str, Finding]]:
    for node in kube.list("v1", "Node"):
        conditions = (node.get("status") or {}).get("conditions") or []
        ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
        found = "Ready" if ready else "NotReady"
        yield node["metadata"]["name"], Finding("ready", ready, "Ready", found, NOTHING_ELSE)


def _version(kube: "Kube") -> Finding:
    found, newest = kube.version(), int(str(versions()["kubernetes"]).split(".")[1])
    match = re.match(r"v1\.(\d+)", found)
    ok = match is not None and OLDEST <= int(match[1]) <= newest + 1
    return Finding("version", ok, f"v1.{OLDEST} to v1.{newest + 1}", found, "upgrade the cluster with its own tool")


def _rights(kube: "Kube") -> Finding:
    ok = kube.can("*", "*.*")
    fix = "use a kubeconfig of an administrator (ClusterRole cluster-admin)"
    return Finding("rights", ok, "everything may be done", "may" if ok else "some of it may not", fix)


def _storage(kube: "Kube") -> Finding:
    classes = kube.list("storage.k8s.io/v1", "StorageClass")
    default = [
        each["metadata"]["name"]
        for each in classes
        if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    fix = f"annotate one StorageClass with {DEFAULT_CLASS}=true"
    return Finding("default storage class", len(default) == 1, "one", ", ".join(default) or "none", fix)


def _metrics(kube: "Kube") -> Finding:
    ok = kube.api.discovery.knows("metrics.k8s.io/v1beta1", "NodeMetrics")
    return Finding("resource metrics", ok, "metrics.k8s.io", "served" if ok else "not served", "install metrics-server")


def _api(kube: "Kube") -> Finding:
    """Where pods reach the API server is read from here; without it no NetworkPolicy could let them."""
    slices = kube.list("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes.io/service-name=kubernetes")
    found = [
        address for each in slices for end in each.get("endpoints") or [] for address in end.get("addresses") or []
    ]
    expected = "EndpointSlices of the service default/kubernetes"
    return Finding("API server", bool(found), expected, ", ".join(found) or "none", "give cluster.observed")
