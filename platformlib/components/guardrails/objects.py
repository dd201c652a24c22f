"""The objects that follow from what all components and the parameters declare."""

from platformlib.components.rendering import Object
from platformlib.security import flows, pod_security, quotas, rbac
from platformlib.settings import Settings


def objects(settings: Settings) -> list[Object]:
    """Namespaces first, then what is in them."""
    makers = (pod_security.objects, quotas.objects, flows.objects, rbac.objects)
    return [made for make in makers for made in make(settings)]
