"""Events and histories: what is bad news and what is not, and of which namespace."""

from collections.abc import Mapping
from typing import Any

import pytest

from platformlib.errors import QueryError
from platformlib.query import Catalog, Events
from platformlib.query.catalog import named_queries
from platformlib.query.history import conditions

CONDITIONS = {
    ("Initialized", "True", ""): "info",
    ("PodScheduled", "True", ""): "info",
    ("PodReadyToStartContainers", "True", ""): "info",
    ("ContainersReady", "True", ""): "info",
    ("ContainersReady", "False", ""): "warning",
    ("Ready", "False", "ContainersNotReady"): "warning",
    ("Ready", "Unknown", "NodeStatusUnknown"): "warning",
    ("Ready", "False", "PodCompleted"): "info",
    ("ContainersReady", "False", "PodCompleted"): "info",
    ("PodScheduled", "False", "Unschedulable"): "warning",
    ("MemoryPressure", "False", ""): "info",
    ("MemoryPressure", "True", ""): "warning",
    ("DiskPressure", "Unknown", ""): "warning",
    ("DisruptionTarget", "True", ""): "warning",
    ("Progressing", "False", "ProgressDeadlineExceeded"): "warning",
    ("ReplicaFailure", "True", ""): "warning",
    ("Failed", "True", ""): "warning",
    ("Complete", "True", ""): "info",
    ("EtcdIsVoter", "True", ""): "info",
    ("SomebodysOwn", "True", ""): "info",
    ("SomebodysOwn", "False", ""): "info",
}


@pytest.mark.parametrize(("condition", "severity"), CONDITIONS.items(), ids=map("=".join, CONDITIONS))
def test_a_condition_is_a_warning_only_when_it_is_bad(condition: tuple[str, str, str], severity: str) -> None:
    kind, status, reason = condition
    found = {"type": kind, "status": status, "reason": reason, "lastTransitionTime": "2026-11-23T10:00:00Z"}
    (row,) = conditions({"kind": "Pod", "metadata": {"name": "p"}, "status": {"conditions": [found]}})
    assert row[5] == severity


class Objects:
    """Events of three namespaces, and of a node, which has none."""

    def list(self, _: str, kind: str, /) -> list[Mapping[str, Any]]:
        places = [("shop", "web-1"), ("bank", "web-1"), ("bank", "db-0"), ("", "node-1")]
        made: list[Mapping[str, Any]] = [
            {
                "metadata": {"name": "e", "creationTimestamp": "2026-11-23T10:01:00Z"},
                "involvedObject": {"kind": "Pod", "namespace": namespace, "name": name},
                "reason": "BackOff",
                "type": "Warning",
            }
            for namespace, name in places
        ]
        return made if kind == "Event" else []


WHERE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all": ({}, ["web-1", "web-1", "db-0", "node-1"]),
    "one namespace": ({"namespace": "bank"}, ["web-1", "db-0"]),
    "several": ({"namespace": ["bank", "shop"]}, ["web-1", "web-1", "db-0"]),
    "a part of a name is no namespace": ({"namespace": "ban"}, []),
    "an object": ({"object": "web"}, ["web-1", "web-1"]),
    "both": ({"namespace": "bank", "object": "web-1"}, ["web-1"]),
}


@pytest.mark.parametrize("query", ["events", "warning_events"])
@pytest.mark.parametrize(("asked", "found"), WHERE.values(), ids=WHERE.keys())
def test_events_are_of_the_namespaces_and_objects_that_were_asked_for(
    query: str, asked: dict[str, Any], found: list[str]
) -> None:
    queries = Catalog(events=Events(Objects()))
    frame = getattr(queries, query)(start="2026-11-23T09:00", end="2026-11-23T11:00", **asked)
    assert list(frame["object"]) == found


def test_a_namespace_that_is_no_name_is_refused() -> None:
    with pytest.raises(QueryError, match="namespace: 3 is no value of type names"):
        Catalog(events=Events(Objects())).events(namespace=3)


def test_alerts_tell_of_which_pod() -> None:
    assert {"namespace", "pod"} <= set(named_queries()["alerts_firing"].labels)


def test_restarts_are_counted_not_extrapolated() -> None:
    assert "increase(" not in Catalog().restarts.text()
