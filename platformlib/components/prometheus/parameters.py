"""Prometheus's part of `observability`."""

from platformlib.schema import Duration, Model, Quantity


class Prometheus(Model):
    """Its disk, memory, and how long a sample is kept."""

    storage: Quantity = "10Gi"
    memory: Quantity = "1Gi"
    retention: Duration = "15d"


class Parameters(Model):
    """Metrics."""

    prometheus: Prometheus = Prometheus()
    scrape_interval: Duration = "30s"
