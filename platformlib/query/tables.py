"""What Prometheus says about itself, as tables: targets, rules, alerts, metadata, exemplars."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from platformlib.errors import QueryError
from platformlib.query.frames import index, rows
from platformlib.query.samples import milliseconds

Notes = tuple[str, ...]
METADATA = ["metric", "type", "unit", "help"]
TARGETS = ["job", "instance", "node", "path", "health", "scraped", "seconds", "error", "url"]
RULES = ["group", "name", "type", "state", "health", "query", "seconds", "evaluated", "error"]
ALERTS = ["active", "name", "state", "severity", "value", "labels", "summary"]
EXEMPLARS = ["time", "series", "exemplar", "value"]


def about(frame: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """The frame with the server's warnings, and whether they say that something was left out."""
    truncated = any("truncated" in note for note in notes)
    frame.attrs |= {"warnings": list(notes), "complete": not truncated, "source": "prometheus", "picture": "table"}
    return frame


def _part(content: Any, key: str) -> list[Mapping[str, Any]]:
    found = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise QueryError(f"an answer without a list of {key}")
    return found


def _times(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    frame[column] = pd.to_datetime(frame[column], utc=True, errors="coerce", format="ISO8601")
    return frame


def metadata(content: Any, notes: Notes) -> pd.DataFrame:
    """A row each metric and kind of it that some target declares."""
    if not isinstance(content, Mapping):
        raise QueryError("metadata that is no mapping")
    found = [{"metric": name, **entry} for name, entries in sorted(content.items()) for entry in entries]
    return about(rows(found, METADATA), notes)


def targets(content: Any, notes: Notes) -> pd.DataFrame:
    """A row each active target."""
    found = [
        {
            "job": target["labels"].get("job"),
            "instance": target["labels"].get("instance"),
            "node": target["labels"].get("node"),
            "path": target["labels"].get("metrics_path", target["discoveredLabels"].get("__metrics_path__")),
            "health": target["health"],
            "scraped": target["lastScrape"],
            "seconds": target["lastScrapeDuration"],
            "error": target["lastError"],
            "url": target["scrapeUrl"],
        }
        for target in _part(content, "activeTargets")
    ]
    frame = _times(rows(found, TARGETS), "scraped").sort_values(["job", "instance", "path"], ignore_index=True)
    return about(frame, notes)


def rules(content: Any, notes: Notes) -> pd.DataFrame:
    """A row each rule of each group."""
    found = [
        {
            **rule,
            "group": group["name"],
            "seconds": rule.get("evaluationTime"),
            "evaluated": rule.get("lastEvaluation"),
            "error": rule.get("lastError", ""),
        }
        for group in _part(content, "groups")
        for rule in group["rules"]
    ]
    return about(_times(rows(found, RULES), "evaluated"), notes)


def alerts(content: Any, notes: Notes) -> pd.DataFrame:
    """A row each alert that is pending or firing."""
    found = [
        {
            "active": alert["activeAt"],
            "name": alert["labels"].get("alertname"),
            "state": alert["state"],
            "severity": alert["labels"].get("severity", ""),
            "value": float(alert["value"]),
            "labels": text_of(alert["labels"]),
            "summary": alert.get("annotations", {}).get("summary", ""),
        }
        for alert in _part(content, "alerts")
    ]
    return about(_times(rows(found, ALERTS), "active"), notes)


def exemplars(content: Any, notes: Notes) -> pd.DataFrame:
    """A row each exemplar, indexed by time."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        raise QueryError("exemplars that are no list")
    found = [
        {
            "time": exemplar["timestamp"],
            "series": text_of(series["seriesLabels"]),
            "exemplar": text_of(exemplar["labels"]),
            "value": float(exemplar["value"]),
        }
        for series in content
        for exemplar in series["exemplars"]
    ]
    frame = rows(found, EXEMPLARS)
    times = milliseconds(frame.pop("time").to_numpy(np.float64))
    return about(frame.set_index(index(times)).sort_index(), notes)


def text_of(labels: Mapping[str, str]) -> str:
    """Labels as PromQL writes them."""
    from platformlib.query.quoting import quoted

    return "{" + ", ".join(f"{name}={quoted(value)}" for name, value in sorted(labels.items())) + "}"
