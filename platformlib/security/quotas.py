"""What a namespace may use, and what a container gets that asks for nothing."""

from typing import TYPE_CHECKING

from platformlib.security.declared import Object, meta, namespaces, quota
from platformlib.settings import Settings
from platformlib.settings.security import Quota

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

NAME = "platform"


def objects(settings: Settings) -> list[Object]:
    """A ResourceQuota and a LimitRange in each namespace that has a size."""
    sized = [each for each in namespaces(settings) if each.size]
    return [
        made
        for each in sized
        for made in (
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta(NAME, each.name),
             "spec": {"hard": hard(quota(settings, each.size))}},
            {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta(NAME, each.name),
             "spec": {"limits": limits(quota(settings, each.size))}},
        )
    ]  # fmt: skip


def hard(quota: Quota) -> dict[str, str]:
    """The quota as Kubernetes counts it. Node ports are never an application's to take."""
    return {
        "requests.cpu": quota.cpu, "requests.memory": quota.memory, "limits.memory": quota.memory,
        "requests.storage": quota.storage, "pods": str(quota.pods), "services.nodeports": "0",
    }  # fmt: skip


def limits(quota: Quota) -> list[Object]:
    """Defaults for a container that asks for nothing, and the most memory that one container may have.

    CPU has a default request only. A default limit would throttle every container, and refuse one that requests more;
    so would `max`, because Kubernetes takes it as the default limit.
    """
    return [{
        "type": "Container", "default": {"memory": "256Mi"},
        "defaultRequest": {"cpu": "10m", "memory": "32Mi"}, "max": {"memory": quota.memory},
    }]  # fmt: skip


def bounds_of_sizes(settings: Settings) -> dict[str, dict[str, object]]:
    """`hard` and `limits` of every size, for the policy that gives them to a new namespace."""
    quotas = {size: quota(settings, size) for size in type(settings.security.sizes).model_fields}
    return {
        "hard": {size: hard(given) for size, given in quotas.items()},
        "limits": {size: limits(given) for size, given in quotas.items()},
    }


def usage(kube: "Kube") -> "pd.DataFrame":
    """Each quota against its use, the fullest first.

    Returns:
        Columns: namespace, resource, used, hard (as Kubernetes writes them), share (0 to 1, and above).
    """
    import pandas as pd

    rows = [
        [each["metadata"]["namespace"], key, (each["status"].get("used") or {}).get(key, "0"), value]
        for each in kube.list("v1", "ResourceQuota")
        for key, value in ((each.get("status") or {}).get("hard") or {}).items()
    ]
    table = pd.DataFrame(rows, columns=["namespace", "resource", "used", "hard"])
    share = [
        number(used) / number(most) if number(most) else 0.0 for used, most in zip(table.used, table.hard, strict=True)
    ]
    return table.assign(share=share).sort_values("share", ascending=False, ignore_index=True)


def number(quantity: str) -> float:
    """A Kubernetes quantity as a plain number."""
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call]
