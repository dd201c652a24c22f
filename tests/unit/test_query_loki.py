"""Every line, whatever the pages, the limits and the nanoseconds; and an error when the server counts otherwise."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pandas as pd
import pytest
import stamina
from hypothesis import example, given, settings
from hypothesis import strategies as st

from platformlib.errors import BadQuery, IncompleteAnswer, QueryCancelled, QueryError
from platformlib.query import Loki
from platformlib.query.apart import Streams, only_filters
from platformlib.query.logql import selector_of
from platformlib.query.transport import Http
from tests.unit.query_fakes import NOW, Fake, FakeLoki, Line, Server, ok

START, END = NOW - 60 * 10**9, NOW
STREAMS = st.sampled_from(
    [
        (("app", "a"), ("line", "x")),
        (("app", "a"),),
        (("app", "a"), ("trace", "1")),
        (("app", "b"),),
        (("app", 'q"\n'), ("node", "n")),
        (("time", "t"),),
    ]
)
# Few moments, so that many lines share a nanosecond, within a stream and across streams.
TIMES = st.integers(0, 12).map(lambda k: START + k * 5 * 10**9 - (k % 3)) | st.integers(START, END - 1)
TEXTS = st.sampled_from(["", "same", "same", 'x"],["1', "山\n\\"]) | st.text(max_size=5)
METADATA = st.sampled_from([(), (("detected_level", "error"),), (("detected_level", "info"), ("trace", "1"))])
LINES = st.lists(st.builds(Line, TIMES.filter(lambda t: START <= t < END), STREAMS, TEXTS, METADATA), max_size=60)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


def put(lines: list[Line]) -> Counter[tuple[object, ...]]:
    return Counter((line.time, line.text, dict(line.stream).get("app", ""), level(line)) for line in lines)


def level(line: Line) -> str:
    return dict(line.metadata).get("detected_level", "")


def got(frame: pd.DataFrame) -> Counter[tuple[object, ...]]:
    """The same of a frame; a column that it does not have is empty."""
    columns = [frame[name] if name in frame.columns else [""] * len(frame) for name in ("app", "detected_level")]
    return Counter(zip(pd.DatetimeIndex(frame.index).asi8.tolist(), frame["line"], *columns, strict=True))


def read(server: Server, page: int = 50_000, **how: Any) -> pd.DataFrame:
    return Loki(server, page=page).lines("{app=~`.+`}", start=START / 1e9, end=END / 1e9, **how)


@settings(max_examples=120, deadline=None)
@given(
    lines=LINES,
    page=st.integers(1, 9),
    volume=st.booleans(),
    direction=st.sampled_from(["forward", "backward"]),
)
@example(lines=[Line(START, (("app", "a"),), text) for text in ("", "", "x")], page=1, volume=True, direction="forward")
def test_every_line_comes_once(lines: list[Line], page: int, volume: bool, direction: str) -> None:
    frame = read(FakeLoki(lines=lines, volume=volume), page, direction=direction)
    assert got(frame) == put(lines)
    order = frame.index if direction == "forward" else frame.index[::-1]
    assert order.is_monotonic_increasing
    assert frame.attrs["complete"] is True


@settings(max_examples=80, deadline=None)
@given(
    lines=LINES, limit=st.integers(1, 20), page=st.integers(2, 9), direction=st.sampled_from(["forward", "backward"])
)
def test_a_limit_gives_the_first_or_the_last(lines: list[Line], limit: int, page: int, direction: str) -> None:
    frame = read(FakeLoki(lines=lines), page, limit=limit, direction=direction)
    times = sorted((line.time for line in lines), reverse=direction == "backward")[:limit]
    assert frame.index.asi8.tolist() == times  # type: ignore[attr-defined]
    assert frame.attrs["complete"] is (len(lines) < limit)
    assert not got(frame) - put(lines)


def test_a_servers_limit_is_believed_and_the_answer_is_still_whole() -> None:
    lines = [Line(START + k * 10**6, (("app", "a"),), str(k)) for k in range(500)]
    server = FakeLoki(lines=lines, most=50)
    assert len(read(server)) == 500


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("times", [(0,), (0, 1), (-(10**9), 0, 10**9)])
def test_a_nanosecond_beyond_the_servers_limit_comes_stream_by_stream(times: tuple[int, ...], direction: str) -> None:
    apps = ["a", 'q"\n', "c"]
    lines = [Line(NOW - 2 * 10**9 + at, (("app", app),), str(k)) for at in times for app in apps for k in range(30)]
    lines += [Line(line.time, (*line.stream, ("node", "n")), line.text) for line in lines[:30]]
    assert got(read(FakeLoki(lines=lines, most=50), direction=direction)) == put(lines)
    assert got(read(FakeLoki(lines=lines, most=50), page=7, direction=direction)) == put(lines)
    assert len(read(FakeLoki(lines=lines, most=50), limit=40, direction=direction)) == 40


def test_a_nanosecond_of_one_stream_beyond_the_servers_limit_is_an_error() -> None:
    lines = [Line(START, (("app", "a"),), str(k)) for k in range(60)]
    with pytest.raises(IncompleteAnswer, match=r"one nanosecond .* of one stream has more lines than the server gives"):
        read(FakeLoki(lines=lines, most=50))


def test_metadata_is_told_from_labels_without_asking_the_server_to() -> None:
    streams = Streams([{"app": "a", "pod": "p"}, {"app": "b"}])
    metadata = (("detected_level", "info"),)
    assert streams.split((("app", "a"), *metadata, ("pod", "p"))) == ((("app", "a"), ("pod", "p")), metadata)
    assert streams.split((("app", "b"), *metadata)) == ((("app", "b"),), metadata)
    assert streams.split((("app", "c"), *metadata)) is None
    sharded = Streams([{"app": "a"}, {"__stream_shard__": "0", "app": "a"}])
    labels = (("__stream_shard__", "0"), ("app", "a"))
    assert sharded.split((*labels, *metadata)) == (labels, metadata)


def test_metadata_that_could_be_a_label_is_left_to_the_server() -> None:
    streams = Streams([{"app": "a"}, {"app": "a", "trace": "1"}])
    assert streams.split((("app", "a"), ("trace", "1"))) is None
    lines = [Line(START, (("app", "a"),), "x", (("trace", "1"),)), Line(START, (("app", "a"), ("trace", "1")), "y")]
    frame = read(FakeLoki(lines=lines))
    assert (frame.attrs["labels"], frame.attrs["metadata"]) == (["app", "trace"], ["metadata_trace"])


@pytest.mark.parametrize(
    ("logql", "plain"),
    [
        ('{a="b"}', True),
        ('{a="b"} |= "| json" != `x` |~ "y" !~ "z" ', True),
        ('{a="b"} | json', False),
        ('{a="b"} |= "x" | level="error"', False),
        ('{a="b"} |= ip("10.0.0.0/8")', False),
    ],
)
def test_which_queries_only_filter(logql: str, plain: bool) -> None:
    assert only_filters(logql) is plain


@pytest.mark.parametrize(("lies", "said"), [(3, "3 missing"), (-2, "2 too many")])
def test_another_count_is_an_error_that_says_how_many(lies: int, said: str) -> None:
    lines = [Line(START + k, (("app", "a"),), str(k)) for k in range(10)]
    with pytest.raises(IncompleteAnswer, match=said):
        read(FakeLoki(lines=lines, lies=lies))


def test_labels_metadata_and_parsed_are_told_apart() -> None:
    extra = {"structuredMetadata": {"detected_level": "warn"}, "parsed": {"line": "7", "app": "p"}}
    result = [{"stream": {"app": "a"}, "values": [[str(START), "hello", extra]]}]
    body = ok({"resultType": "streams", "encodingFlags": ["categorize-labels"], "result": result})
    frame = Loki(Fake(lambda *_: body)).lines("{}", start=START / 1e9, end=END / 1e9, limit=5)
    assert frame.iloc[0].to_dict() == {
        "line": "hello", "app": "a", "detected_level": "warn", "parsed_app": "p", "parsed_line": "7",
    }  # fmt: skip
    assert (frame.attrs["labels"], frame.attrs["metadata"]) == (["app"], ["detected_level"])


def test_no_lines_is_an_empty_frame_with_its_columns() -> None:
    frame = read(FakeLoki(), labels=["app", "node"])
    assert list(frame.columns) == ["line", "app", "node"]
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"


def test_tail_gives_each_line_once_and_stops() -> None:
    lines = [Line(NOW + k, (("app", "a"),), str(k)) for k in range(3)]
    server = FakeLoki(lines=lines[:1])
    clock = iter(range(NOW, NOW + 100 * 10**9, 10**9))
    server.now = lambda: next(clock)  # type: ignore[method-assign]
    frames = []
    for frame in Loki(server).tail("{app=`a`}", until=lambda new: "2" in set(new["line"]), every=0):
        frames.append(frame)
        server.lines = lines[: len(frames) + 1]
    assert [text for frame in frames for text in frame["line"]] == ["0", "1", "2"]


def test_cancelled_before_it_is_whole() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(QueryCancelled):
        read(FakeLoki(), cancel=stop)


@pytest.mark.parametrize(
    ("logql", "selector"),
    [
        ('{a="b"} |= "}"', '{a="b"}'),
        ('{a="}", b=~`{}"`} | json', '{a="}", b=~`{}"`}'),
        ('{a="\\"}"}', '{a="\\"}"}'),
    ],
)
def test_where_a_selector_ends(logql: str, selector: str) -> None:
    assert selector_of(logql) == selector


def test_a_metric_query_is_no_log_query() -> None:
    with pytest.raises(BadQuery, match="not a log query"):
        selector_of('sum(rate({a="b"}[1m]))')


SWAPS = [
    (b'"streams"', b'"matrix"'),
    (b'"streams"', b"null"),
    (b'"text"', b"1"),
    (b'"text"', b"null"),
    (b'"text", {}', b'"text"'),
    (b'"text"', b'"a", "b"'),
    (b'"17', b'"x17'),
    (b'"17', b'"9999999999999999999917'),
    (b'"17', b'"1.7'),
    (b'"app": "a"', b'"app": []'),
    (b'"success"', b'"error"'),
    (b"{}", b"[]"),
    (b"{}", b'{"parsed": 1}'),
]


def test_three_thousand_broken_answers_are_errors() -> None:
    rng = random.Random(7)
    asked = {"start": str(START), "end": str(END), "limit": "50", "direction": "forward"}
    body = FakeLoki(lines=[Line(START + k, (("app", "a"),), "text") for k in range(9)]).made("query_range", asked)
    assert isinstance(body, bytes)

    def handler(_: httpx.Request) -> httpx.Response:
        match rng.randrange(4):
            case 0:
                return httpx.Response(200, content=body[: rng.randrange(len(body))])
            case 1:
                return httpx.Response(
                    rng.choice([400, 403, 404, 429, 500, 502, 503]), content=b"<html>Bad gateway</html>"
                )
            case 2:
                raise rng.choice(
                    [httpx.ReadError("cut"), httpx.RemoteProtocolError("closed"), httpx.ReadTimeout("late")]
                )
        return httpx.Response(200, content=body.replace(*rng.choice(SWAPS), 1))

    loki = Loki(Http("http://loki", transport=httpx.MockTransport(handler)))
    with stamina.set_testing(True, attempts=1):
        for _ in range(3_000):
            with pytest.raises(QueryError):
                loki.lines("{}", start=START / 1e9, end=END / 1e9, limit=20)
