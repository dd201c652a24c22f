"""Loki's part of `observability`."""

from pydantic import field_validator

from platformlib.durations import seconds
from platformlib.schema import Duration, Model, Quantity


class Loki(Model):
    """Its disk, memory, and how long a line is kept."""

    storage: Quantity = "5Gi"
    memory: Quantity = "512Mi"
    retention: Duration = "7d"

    @field_validator("retention")
    @classmethod
    def _a_whole_day(cls, value: str) -> str:
        """Its compactor works on an index of a day, and Loki itself refuses less only when it starts."""
        if seconds(value) < seconds("1d"):
            raise ValueError("24h or more")
        return value


class Parameters(Model):
    """Logs."""

    loki: Loki = Loki()
