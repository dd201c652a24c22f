"""One scrape file and one rule file for each component of the platform."""

from typing import Any

import yaml

from platformlib import composition
from platformlib.component import Component, Scrape
from platformlib.components.rendering import RELOADED, Object, text
from platformlib.durations import seconds
from platformlib.security.quotas import number
from platformlib.settings import Settings

LONGEST = 10  # seconds that one scrape may take
# What tells the series of two pods apart: label of the target → what discovery knows of it.
PLACED = {
    "node": "__meta_kubernetes_pod_node_name",
    "namespace": "__meta_kubernetes_namespace",
    "pod": "__meta_kubernetes_pod_name",
}


def names(settings: Settings) -> dict[str, Any]:
    """What the templates use."""
    own = settings.observability
    return {"size": share_of(own.prometheus.storage, 0.8), "scrape_timeout": scrape_timeout(own.scrape_interval)}


def share_of(quantity: str, share: float) -> str:
    """A share of a Kubernetes quantity of bytes, as Prometheus writes sizes."""
    return f"{int(number(quantity) * share)}B"


def scrape_timeout(interval: str) -> str:
    """At most 10 s, and never more than the interval."""
    return interval if seconds(interval) < LONGEST else f"{LONGEST}s"


def objects(settings: Settings) -> list[Object]:
    """A file for each component: ConfigMaps whose changes Prometheus picks up by itself."""
    members, place = composition.installed(settings), _place(settings)
    scrapes = {f"{each.name}.yaml": scrape_file(each, settings) for each in members if each.scrape}
    rules = {f"{each.name}.yaml": each.text("rules.yaml") for each in members if each.text("rules.yaml")}
    return [_files("prometheus-scrape", place, scrapes), _files("prometheus-rules", place, rules)]


def _place(settings: Settings) -> str:
    own = composition.provider(settings, "metrics")
    assert own is not None and own.namespace is not None  # noqa: S101 - this component is part of the platform
    return own.namespace.name


def scrape_file(one: Component, settings: Settings) -> str:
    """Its own scrape.yaml, or a job for each of its ports that its component.yaml names."""
    if one.text("scrape.yaml"):
        return text(one, "scrape.yaml", settings)
    return yaml.safe_dump({"scrape_configs": [_job(one, each) for each in one.scrape]}, sort_keys=False)


def _job(one: Component, scrape: Scrape) -> Object:
    """Every pod of the component that has the port."""
    assert one.namespace is not None  # noqa: S101 - pods are in a namespace
    chosen = {"role": "pod", "label": ",".join(f"{key}={value}" for key, value in one.selector.items())}
    where = {"role": "pod", "namespaces": {"names": [one.namespace.name]}} | (
        {"selectors": [chosen]} if one.selector else {}
    )
    keep = {
        "source_labels": ["__meta_kubernetes_pod_container_port_number", "__meta_kubernetes_pod_phase"],
        "regex": f"{scrape.port};(Pending|Running)", "action": "keep",
    }  # fmt: skip
    labels = [] if scrape.honor_labels else [{"source_labels": [s], "target_label": t} for t, s in PLACED.items()]
    return {
        "job_name": scrape.job, "honor_labels": scrape.honor_labels, "fallback_scrape_protocol": "PrometheusText0.0.4",
        "kubernetes_sd_configs": [where], "relabel_configs": [keep, *labels],
    }  # fmt: skip


def _files(name: str, namespace: str, data: dict[str, str]) -> Object:
    labels = {"app.kubernetes.io/name": "prometheus"}
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": {RELOADED: "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
