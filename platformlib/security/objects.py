"""The components of the layer whose objects follow from what is declared."""

from collections.abc import Callable

from platformlib.security import flows, kyverno, pod_security, quotas, rbac
from platformlib.security.declared import Object
from platformlib.settings import Settings

GENERATED: dict[str, Callable[[Settings], list[Object]]] = {
    "namespaces": pod_security.objects,
    "quotas": quotas.objects,
    "flows": flows.objects,
    "personas": rbac.objects,
    "kyverno": kyverno.objects,
}
