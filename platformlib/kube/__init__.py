"""The only package that talks to the Kubernetes API."""

from platformlib.kube.client import Kube
from platformlib.kube.documents import parse
from platformlib.kube.identity import Identity
from platformlib.kube.objects import Reference, reference
from platformlib.kube.report import Progress
from platformlib.kube.service import ServiceRoute

__all__ = ["Identity", "Kube", "Progress", "Reference", "ServiceRoute", "parse", "reference"]
