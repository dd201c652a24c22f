"""Prometheus's answers as frames: what was put in comes out, and nothing else ever does."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from platformlib.errors import BadQuery, QueryError
from platformlib.query import Prometheus, ranges
from platformlib.query.transport import Answer, Http, Params
from tests.unit.query_fakes import NOW, Fake, FakePrometheus, Labels, Server, ok, text_of

START, STEP, POINTS = NOW // 10**6 - 3_600_000, 15_000, 40  # milliseconds
NAMES = st.sampled_from(["__name__", "node", "namespace", "value", "time", "le", "label_value"])
VALUES = st.text(max_size=8) | st.sampled_from(['a"b', "line\nbreak", '"],[', "Zürich 山", "\\", "{}", "NaN"])
LABELS = st.dictionaries(NAMES, VALUES, max_size=3).map(lambda found: tuple(sorted(found.items())))
NUMBERS = st.floats() | st.sampled_from([float("inf"), float("-inf"), float("nan"), 5e-324, -0.0, 1e300])
SERIES = st.dictionaries(st.integers(0, POINTS - 1).map(lambda k: START + k * STEP), NUMBERS, min_size=1)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


def asked(server: Server, shape: str = "wide", limit: int = 11_000) -> pd.DataFrame:
    """The whole window of the made samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "POINTS_LIMIT", limit)
        span: dict[str, Any] = {
            "start": START / 1000,
            "end": (START + (POINTS - 1) * STEP) / 1000,
            "step": STEP / 1000,
            "shape": shape,
        }
        return Prometheus(transport=server).query_range("anything", **span)


@settings(max_examples=80, deadline=None)
@given(samples=st.dictionaries(LABELS, SERIES, max_size=5), limit=st.sampled_from([2, 7, 11_000]))
def test_a_frame_holds_exactly_the_samples(samples: dict[Labels, dict[int, float]], limit: int) -> None:
    server = FakePrometheus(samples=samples)
    long, wide = asked(server, "long", limit), asked(server, "wide", limit)
    put = sorted((time, text_of(value)) for series in samples.values() for time, value in series.items())
    assert sorted(zip(long.index.asi8.tolist(), map(text_of, long["value"]), strict=True)) == put  # type: ignore[attr-defined]
    assert wide.shape == ((POINTS, len(samples)) if samples else (0, 0))
    for labels, column in zip(sorted(samples), range(wide.shape[1]), strict=True):
        name: Any = wide.columns[column]
        known = {
            k: v for k, v in zip(wide.columns.names, name if isinstance(name, tuple) else [name], strict=True) if v
        }
        if any(labels for labels in samples):
            assert known == {k: v for k, v in labels if v}
        expected = [samples[labels].get(START + k * STEP, float("nan")) for k in range(POINTS)]
        np.testing.assert_array_equal(wide.iloc[:, column], expected)


@settings(max_examples=60, deadline=None)
@given(samples=st.dictionaries(LABELS, SERIES, min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_order_and_spelling_of_an_answer_change_nothing(samples: dict[Labels, dict[int, float]], seed: int) -> None:
    server, shuffle = FakePrometheus(samples=samples), random.Random(seed)

    def disordered(path: str, params: Params) -> bytes:
        body = json.loads(server.made(path, params))
        shuffle.shuffle(body["data"]["result"])
        for series in body["data"]["result"]:
            shuffle.shuffle(series["values"])
            series["metric"] = dict(shuffle.sample(list(series["metric"].items()), len(series["metric"])))
        return json.dumps(body, indent=shuffle.choice([None, 1])).encode()

    for shape in ("wide", "long"):
        pd.testing.assert_frame_equal(asked(server, shape), asked(Fake(disordered), shape))


def test_attrs_say_what_was_asked() -> None:
    server = FakePrometheus(samples={(("node", "a"),): {START: 1.0}})
    attrs = asked(server).attrs
    assert attrs["query"] == "anything"
    assert attrs["step"] == "15s"
    assert attrs["window"][0] == pd.Timestamp(START, unit="ms", tz="UTC").isoformat()
    assert attrs["complete"] is True


def test_the_servers_warnings_are_kept_and_truncation_is_not_complete() -> None:
    body = ok({"resultType": "matrix", "result": []}, warnings=["results truncated due to limit"])
    attrs = asked(Fake(lambda *_: body)).attrs
    assert attrs["warnings"] == ["results truncated due to limit"]
    assert attrs["complete"] is False


def test_an_empty_answer_is_an_empty_frame_with_its_columns() -> None:
    nothing = Prometheus(transport=Fake(lambda *_: ok({"resultType": "matrix", "result": []})))
    wide = nothing.query_range("x", "1h", labels=["node"])
    assert wide.empty
    assert wide.columns.names == ["node"]
    assert str(wide.index.dtype) == "datetime64[ms, UTC]"
    assert list(nothing.query_range("x", "1h", labels=["node"], shape="long").columns) == ["node", "value"]


def test_native_histograms_stay_apart_from_floats() -> None:
    histogram = [START / 1000, {"count": "3", "sum": "4.5", "buckets": [[0, "0.5", "1", "2"], [0, "1", "+Inf", "1"]]}]
    result = [
        {"metric": {"a": "1"}, "histograms": [histogram]},
        {"metric": {"a": "2"}, "values": [[START / 1000, "7"]]},
    ]
    server = Fake(lambda *_: ok({"resultType": "matrix", "result": result}))
    wide = asked(server)
    assert list(wide.columns) == ["2"]
    assert "1 native histograms" in wide.attrs["warnings"][0]
    apart = Prometheus(transport=server).histograms("x", start=START / 1000, end=START / 1000 + 60)
    assert apart[["lower", "upper", "bucket"]].to_numpy().tolist() == [[0.5, 1.0, 2.0], [1.0, np.inf, 1.0]]
    assert apart["sum"].tolist() == [4.5, 4.5]


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        ("scalar", [1763914800, "NaN"], ["nan"]),
        ("string", [1763914800, "text"], ["text"]),
        ("vector", [{"metric": {"a": "1"}, "value": [1763914800.5, "+Inf"]}], ["inf"]),
        ("matrix", [{"metric": {}, "values": [[1763914800, "1"], [1763914801.25, "2"]]}], ["1.0", "2.0"]),
        ("vector", [], []),
    ],
)
def test_instant_answers_of_every_kind(kind: str, result: object, expected: list[str]) -> None:
    frame = Prometheus(transport=Fake(lambda *_: ok({"resultType": kind, "result": result}))).query("x")
    assert list(map(str, frame["value"])) == expected
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"


SAMPLES: dict[Labels, dict[int, float]] = {
    (("a", str(k)),): {START + STEP * j: k + j / 7 for j in range(9)} for k in range(3)
}
GARBAGE = [b"", b"null", b"[]", b"{}", b"not json", b"\xff\xfe", b"1e999", b'"success"', b"[" * 5000]
VALUES_NOT = ["null", "true", "{}", "[]", '"x"', "1", '"1_0"', '"0x1p3"', '" 1"', '"\uff11"', '"1e999"', '""', "[1]"]
TIMES_NOT = ["null", '"1"', "1e300", "-1e300", "99999999999999", "{}", "1763910000"]
LABELS_NOT = ["[", "{1:", '{"a":1,', '{"a":null,']
CUTS = [
    httpx.ReadError("cut"),
    httpx.RemoteProtocolError("closed"),
    httpx.ConnectError("no"),
    httpx.ReadTimeout("late"),
]


def swapped(text: str, rng: random.Random, place: int, other: str) -> bytes:
    """One sample's time (0) or value (1) replaced."""
    body = json.loads(text)
    rng.choice(rng.choice(body["data"]["result"])["values"])[place] = "SWAP"
    return json.dumps(body).replace('"SWAP"', other).encode()


def twice(text: str) -> bytes:
    """Every series two times."""
    body = json.loads(text)
    body["data"]["result"] *= 2
    return json.dumps(body).encode()


BREAKS: list[Callable[[str, random.Random], bytes]] = [
    lambda text, rng: text.encode()[: rng.randrange(len(text))],
    lambda _, rng: rng.choice(GARBAGE),
    lambda *_: b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    lambda text, rng: text.replace('"success"', rng.choice(['"error"', "1", "null", '"Success"'])).encode(),
    lambda text, rng: text.replace('"matrix"', rng.choice(['"vector"', '"streams"', "null", '""'])).encode(),
    lambda text, rng: swapped(text, rng, 0, rng.choice(TIMES_NOT)),
    lambda text, rng: swapped(text, rng, 1, rng.choice(VALUES_NOT)),
    lambda text, rng: text.replace('"metric": {', '"metric": ' + rng.choice(LABELS_NOT), 1).encode(),
    lambda text, rng: text.encode() + rng.choice([b"x", b"{}", text.encode()]),
    lambda text, _: twice(text),
]


def test_seven_thousand_broken_answers_are_errors_and_never_frames() -> None:
    rng = random.Random(20261123)
    asked = {"start": str(START / 1000), "end": str(START / 1000 + (POINTS - 1) * 15), "step": "15"}
    text = FakePrometheus(samples=SAMPLES).made("", asked).decode()

    def handler(_: httpx.Request) -> httpx.Response:
        match rng.randrange(8):
            case 0:
                raise rng.choice(CUTS)
            case 1:
                return httpx.Response(rng.choice([301, 400, 401, 403, 404, 422, 429, 500, 503]), content=text.encode())
        return httpx.Response(200, content=rng.choice(BREAKS)(text, rng))

    server = Prometheus(transport=Http("http://prometheus", transport=httpx.MockTransport(handler)))
    span: dict[str, Any] = {"start": START / 1000, "end": (START + (POINTS - 1) * STEP) / 1000, "step": 15}
    with stamina.set_testing(True, attempts=1):
        for _ in range(7_000):
            with pytest.raises(QueryError) as caught:
                server.query_range("x", **span)
            assert len(str(caught.value)) < 1500


def test_a_bad_query_is_asked_once_and_says_why() -> None:
    said = b'{"status":"error","errorType":"bad_data","error":"parse error: unexpected }"}'
    server = Fake(lambda _, params: Answer(400, said, "application/json", params))
    with pytest.raises(BadQuery, match="parse error: unexpected }"):
        Prometheus(transport=server).query("}")
    assert len(server.asked) == 1


def test_people_s_code_for_prometheusconnect_travels_the_same_way() -> None:
    server = Fake(lambda *_: ok({"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1, "2"]}]}))
    prometheus = Prometheus(transport=server)
    assert prometheus.custom_query("up", params={"time": 5})[0]["value"] == [1, "2"]
    path, params = server.asked[0]
    assert (path, dict(params)) == ("/api/v1/query", {"query": "up", "time": "5"})
    assert prometheus.check_prometheus_connection()


def test_targets_and_the_like_have_their_columns_when_there_are_none() -> None:
    empty: dict[str, Any] = {
        "targets": {"activeTargets": []},
        "rules": {"groups": []},
        "alerts": {"alerts": []},
        "metadata": {},
    }
    server = Fake(lambda path, _: ok(empty.get(path.rsplit("/", 1)[1], [])))
    prometheus = Prometheus(transport=server)
    for frame in (
        prometheus.targets(),
        prometheus.rules(),
        prometheus.alerts(),
        prometheus.metadata(),
        prometheus.exemplars("x"),
    ):
        assert frame.empty
        assert len(frame.columns) >= 3
