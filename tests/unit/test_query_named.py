"""Named queries, windows, events: what a person types, and what it becomes."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformlib.errors import QueryError
from platformlib.query import Catalog, Events, Loki, Prometheus, Window
from platformlib.query.catalog import named_queries
from platformlib.query.named import BUILT_IN, Named, Parameter, literal
from platformlib.query.quoting import escaped, quoted, selector
from platformlib.query.window import duration, moment, step_for, window
from tests.unit.query_fakes import NOW, Fake, ok

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
HOUR = 3600 * 10**9


@given(TEXT)
def test_a_quoted_text_is_that_text_and_nothing_more(text: str) -> None:
    made = quoted(text)
    assert json.loads(made) == text
    assert "\n" not in made
    assert re.fullmatch(r'"(?:\\.|[^"\\])*"', made)


@given(TEXT, TEXT)
def test_an_escaped_text_matches_only_itself(text: str, other: str) -> None:
    assert re.fullmatch(escaped(text), text)
    assert (re.fullmatch(escaped(text), other) is not None) == (text == other)


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_names_cannot_leave_their_matcher(names: list[str]) -> None:
    pattern = json.loads(literal(Parameter(type="names"), names, "namespace"))
    assert all(re.fullmatch(pattern, name) for name in names)


def test_a_selector_takes_no_strange_label() -> None:
    assert selector(namespace="a", pod=["b.c", "d"]) == '{namespace="a", pod=~"b\\\\.c|d"}'
    with pytest.raises(QueryError, match="not a label"):
        selector(**{'a="b",c': "d"})


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", "5"), ("integer", True), ("integer", 1.5), ("number", float("inf")), ("number", "1"), ("text", 1),
     ("names", []), ("names", [1]), ("names", 3), ("pattern", ["a"]), ("duration", "5 bananas"), ("duration", None)],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(QueryError):
        literal(Parameter(type=kind, default=7 if kind == "integer" else None), value, "x")


@pytest.mark.parametrize("name", sorted(named_queries()))
def test_every_named_query_is_whole(name: str) -> None:
    named = named_queries()[name]
    assert named.places() <= set(named.parameters) | BUILT_IN
    assert set(named.parameters) <= named.places() or named.kind == "events"
    text = getattr(Catalog(), name).text()
    assert "$" not in text
    assert text.count("(") == text.count(")")
    assert named.title
    assert named.description.endswith(".")
    assert named.unit or named.kind == "events"


def test_named_queries_are_completed_listed_and_explained() -> None:
    queries = Catalog()
    assert {"cpu_by_node", "log_lines", "restarts"} <= set(dir(queries))
    assert list(queries.table()["name"]) == list(named_queries())
    assert "quantile=0.99" in repr(queries.api_latency)
    with pytest.raises(AttributeError, match="no query is named"):
        _ = queries.cpu_by_banana


def test_an_unknown_parameter_names_the_known_ones() -> None:
    queries = Catalog(Prometheus(transport=Fake(lambda *_: ok({"resultType": "matrix", "result": []}))))
    with pytest.raises(QueryError, match="its parameters are: namespace, pod"):
        queries.cpu_by_pod(name_space="x")


def test_a_named_query_without_its_server_says_which() -> None:
    with pytest.raises(QueryError, match="no loki to ask"):
        Catalog().log_lines()


def test_a_named_query_runs_with_its_window_and_keeps_what_it_is() -> None:
    server = Fake(lambda *_: ok({"resultType": "matrix", "result": []}))
    frame = Catalog(Prometheus(transport=server)).memory_by_namespace(window="6h", namespace=["a", "b"])
    asked = server.asked[0][1]
    assert 'namespace=~"a|b"' in str(asked["query"])
    assert int(str(asked["end"])) - int(str(asked["start"])) == 6 * 3600
    assert (frame.attrs["unit"], frame.attrs["picture"], frame.columns.names) == ("bytes", "area", ["namespace"])


def test_rates_are_never_shorter_than_a_step() -> None:
    assert "[2m]" in Catalog().cpu_by_node.text("1h")
    assert "[2h]" in Catalog().cpu_by_node.text("14d")


def test_a_loki_metric_query_lies_on_whole_steps() -> None:
    server = Fake(lambda *_: ok({"resultType": "matrix", "result": []}))
    Catalog(None, Loki(server)).log_volume_by_level(window="1h", step="1m", end=NOW / 1e9 + 7)
    asked = server.asked[0][1]
    assert int(str(asked["start"])) % 60 == int(str(asked["end"])) % 60 == 0
    assert "[1m]" in str(asked["query"])


def test_an_unknown_key_in_a_named_query_is_refused() -> None:
    with pytest.raises(ValueError, match="extra_forbidden"):
        Named.model_validate({"title": "t", "description": "d", "query": "q", "colour": "red"})


@pytest.mark.parametrize(
    ("span", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("500ms", 0.5), (15, 15), ("1.5h", 5400)]
)
def test_durations(span: str | float, seconds: float) -> None:
    assert duration(span) == seconds * 10**9


@pytest.mark.parametrize("span", ["", "h", "1", "1x", "1h and more", "-1h", "h1"])
def test_no_durations(span: str) -> None:
    with pytest.raises(QueryError, match="not a duration"):
        duration(span)


def test_moments_are_utc() -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    for said in ("2026-11-23T12:00", "2026-11-23T13:00+01:00", noon, noon.timestamp()):
        assert moment(said, now=0) == round(noon.timestamp() * 1e9)
    assert moment("-1h", now=NOW) == NOW - HOUR
    with pytest.raises(QueryError, match="no time zone"):
        moment(datetime(2026, 11, 23), now=0)
    with pytest.raises(QueryError, match="not a moment"):
        moment("yesterday", now=0)


def test_windows() -> None:
    assert window("1h", now=NOW + 5) == Window(NOW - HOUR, NOW)
    assert window(start="-2h", end="-1h", now=NOW) == Window(NOW - 2 * HOUR, NOW - HOUR)
    with pytest.raises(QueryError, match="empty window"):
        window(start="-1h", end="-2h", now=NOW)


@given(st.integers(1, 10**12), st.integers(1, 50))
def test_parts_cover_a_window_without_a_gap(length: int, count: int) -> None:
    parts = Window(5, 5 + length).parts(count)
    assert (parts[0].start, parts[-1].end) == (5, 5 + length)
    assert all(one.end == other.start for one, other in pairwise(parts))


@given(st.integers(10**9, 400 * 86400 * 10**9))
def test_steps_give_some_hundred_points(length: int) -> None:
    assert length / step_for(length) <= 301


POD = {
    "metadata": {"name": "p", "namespace": "n", "creationTimestamp": "2026-11-23T10:00:00Z"},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-23T10:05:00Z", "reason": "X"}
        ],
        "containerStatuses": [
            {
                "name": "c",
                "restartCount": 2,
                "state": {"running": {"startedAt": "2026-11-23T10:06:00Z"}},
                "lastState": {
                    "terminated": {"finishedAt": "2026-11-23T10:05:59Z", "reason": "OOMKilled", "exitCode": 137}
                },
            }
        ],
    },
}
REPLICA_SET = {
    "metadata": {
        "name": "d-1",
        "namespace": "n",
        "creationTimestamp": "2026-11-23T09:59:00Z",
        "annotations": {"deployment.kubernetes.io/revision": "3"},
        "ownerReferences": [{"kind": "Deployment", "name": "d"}],
    },
    "spec": {"template": {"spec": {"containers": [{"image": "i:1"}]}}},
}
EVENT = {
    "metadata": {"name": "e", "namespace": "n", "creationTimestamp": "2026-11-23T10:01:00Z"},
    "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p"},
    "reason": "FailedScheduling",
    "message": "no node fits",
    "type": "Warning",
    "count": 4,
    "lastTimestamp": "2026-11-23T10:02:00Z",
}


class Objects:
    """A cluster of three objects."""

    def list(self, api_version: str, kind: str, /) -> list[Mapping[str, Any]]:
        found = {("v1", "Pod"): [POD], ("apps/v1", "ReplicaSet"): [REPLICA_SET], ("v1", "Event"): [EVENT]}
        return found.get((api_version, kind), [])  # type: ignore[return-value]


def happened(**window: Any) -> pd.DataFrame:
    return Events(Objects()).all(start="2026-11-23T09:00", end=window.get("end", "2026-11-23T11:00"))


def test_events_and_history_are_one_frame_in_order() -> None:
    frame = happened()
    assert list(zip(frame["what"], frame["object"], frame["severity"].astype("str"), frame["source"], strict=True)) == [
        ("RolledOut", "d", "info", "status"),
        ("Created", "p", "info", "status"),
        ("FailedScheduling", "p", "warning", "event"),
        ("Ready=False", "p", "warning", "status"),
        ("OOMKilled", "p/c", "error", "status"),
        ("Restarted", "p/c", "warning", "status"),
    ]
    assert frame["detail"].iloc[2] == "no node fits (4 times)"
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"


def test_a_window_without_events_has_the_columns() -> None:
    frame = happened(end="2026-11-23T09:30")
    assert frame.empty
    assert list(frame.columns) == ["kind", "namespace", "object", "what", "severity", "source", "detail"]


def test_events_replay_without_a_cluster(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORMLIB_RECORD", str(tmp_path))
    recorded = happened()
    monkeypatch.delenv("PLATFORMLIB_RECORD")
    monkeypatch.setenv("PLATFORMLIB_REPLAY", str(tmp_path))

    def nobody() -> Any:
        raise AssertionError("a replay needs no cluster")

    replayed = Events(nobody).all(start="2026-11-23T09:00", end="2026-11-23T11:00")
    pd.testing.assert_frame_equal(recorded, replayed)
