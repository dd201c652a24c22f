"""What a namespace may use, and what a container gets that asks for nothing."""

from typing import TYPE_CHECKING

from platformlib.security.declared import Object, meta, namespaces, quota
from platformlib.settings import Settings
from platformlib.settings.security import Quota

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

NAME = "platform"
FACTORS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
           "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip


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
    """The quota as Kubernetes counts it; ports of the machines are never an application's to take."""
    return {
        "requests.cpu": quota.cpu, "requests.memory": quota.memory, "limits.memory": quota.memory,
        "requests.storage": quota.storage, "pods": str(quota.pods), "services.nodeports": "0",
    }  # fmt: skip


def hard_of_sizes(settings: Settings) -> dict[str, dict[str, str]]:
    """The quota of every size, for the policy that brings it to a new namespace."""
    return {size: hard(quota(settings, size)) for size in type(settings.security.sizes).model_fields}


def limits(quota: Quota) -> list[Object]:
    """Defaults for a container that says nothing, and the most that a single one may have."""
    return [{
        "type": "Container", "default": {"cpu": "500m", "memory": "256Mi"},
        "defaultRequest": {"cpu": "10m", "memory": "32Mi"}, "max": {"cpu": quota.cpu, "memory": quota.memory},
    }]  # fmt: skip


def usage(kube: "Kube") -> "pd.DataFrame":
    """namespace, resource, used, hard, share: each quota against its use; the fullest first."""
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
    digits = quantity.rstrip("mkKMGTi")
    return float(digits) * FACTORS[quantity.removeprefix(digits)]
