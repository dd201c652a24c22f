"""What k3s's CIS hardening guide asks for, as options and files; NetworkPolicies belong to the security layer."""

from collections.abc import Iterable
from typing import Any

import yaml

from platformlib import composition
from platformlib.clusters.k3s import layout
from platformlib.settings import Settings

CIPHERS = ",".join(
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for cipher in ("AES_256_GCM_SHA384", "AES_128_GCM_SHA256", "CHACHA20_POLY1305")
    for key in ("ECDSA", "RSA")
)
SYSCTLS = {"vm.panic_on_oom": 0, "vm.overcommit_memory": 1, "kernel.panic": 10, "kernel.panic_on_oops": 1}
SYSTEM = ("kube-system",)
APISERVER = [
    "enable-admission-plugins=NodeRestriction,EventRateLimit",
    f"admission-control-config-file={layout.ADMISSION}",
    f"audit-log-path={layout.AUDIT_LOG}",
    f"audit-policy-file={layout.AUDIT_POLICY}",
    "audit-log-maxage=30",
    "audit-log-maxbackup=10",
    "audit-log-maxsize=100",
    "service-account-extend-token-expiration=false",
]
CONTROLLER_MANAGER = ["terminated-pod-gc-threshold=100"]
KUBELET = ["streaming-connection-idle-timeout=5m", f"tls-cipher-suites={CIPHERS}"]


def sysctl() -> str:
    """The kernel settings that kubelet expects under `protect-kernel-defaults`."""
    return "".join(f"{name} = {value}\n" for name, value in SYSCTLS.items())


def unlabelled(settings: Settings) -> list[str]:
    """The platform's namespaces that no component labels: their pods may need more than `restricted`.

    An exemption would outweigh labels, so where they are given, only the system's own namespace has one.
    """
    if composition.provider(settings, "namespaces"):
        return []
    return sorted(each.name for each in composition.namespaces(settings).values() if not each.exists)


def admission(unlabelled: Iterable[str]) -> str:
    """Pod Security `restricted` by default, and a limit on events; labels of a namespace still decide for it."""
    exempt = [*SYSTEM, *unlabelled]
    modes = ("enforce", "audit", "warn")
    defaults = {key: value for mode in modes for key, value in ((mode, "restricted"), (f"{mode}-version", "latest"))}
    security = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": defaults,
        "exemptions": {"usernames": [], "runtimeClasses": [], "namespaces": exempt},
    }
    rates = {
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "limits": [{"type": "Server", "qps": 5000, "burst": 20000}],
    }
    plugins = [_plugin("PodSecurity", security), _plugin("EventRateLimit", rates)]
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins}
    return yaml.safe_dump(document, sort_keys=False)


def _plugin(name: str, configuration: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def audit_policy() -> str:
    """Who did what, never the content: Secrets must not end up in a log."""
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    return yaml.safe_dump(document, sort_keys=False)
