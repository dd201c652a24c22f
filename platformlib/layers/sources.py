"""Where a platform's metrics and logs are reached: through the API server, with the kubeconfig's credentials."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platformlib.kube import Kube
    from platformlib.query.loki import Loki
    from platformlib.query.prometheus import Prometheus

NAMESPACE = "observability"


def prometheus(kube: "Kube") -> "Prometheus":
    """The platform's metrics."""
    from platformlib.query import Prometheus, connect

    return Prometheus(transport=connect(lambda: kube.service(NAMESPACE, "prometheus", 9090), name="prometheus"))


def loki(kube: "Kube") -> "Loki":
    """The platform's logs."""
    from platformlib.query import Loki, connect

    return Loki(connect(lambda: kube.service(NAMESPACE, "loki", 3100), name="loki"))
