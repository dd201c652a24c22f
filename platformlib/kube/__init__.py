"""The only package that talks to the Kubernetes API."""

from platformlib.kube.batch import Progress
from platformlib.kube.client import Kube
from platformlib.kube.identity import Identity
from platformlib.kube.objects import Reference, parse, reference
from platformlib.kube.session import ServiceRoute

__all__ = ["Identity", "Kube", "Progress", "Reference", "ServiceRoute", "parse", "reference"]
