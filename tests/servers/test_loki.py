"""Frames from a real Loki: every line that was put in, once, with its labels, whatever the server's limits."""

from collections import Counter

import pandas as pd
import pytest

from benchmarks import made
from platformlib.errors import BadQuery
from platformlib.query import Catalog, Loki, Recording, Replay
from tests.servers.conftest import STREAMS, Lines

ALL = '{namespace="made"}'


def read(lines: Lines, **how: object) -> pd.DataFrame:
    return lines.loki.lines(ALL, start=lines.start, end=lines.end, **how)  # type: ignore[arg-type]


def got(frame: pd.DataFrame) -> Counter[tuple[int, str, str]]:
    return Counter(zip(pd.DatetimeIndex(frame.index).asi8.tolist(), frame["pod"], frame["line"], strict=True))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_line_comes_once(logged: Lines, direction: str) -> None:
    frame = read(logged, direction=direction)
    assert got(frame) == Counter(logged.lines)
    assert frame.attrs["proven"] is True
    assert set(frame["app"]) == {stream["app"] for stream in STREAMS}
    assert set(frame["trace"]) == {"t0", "t1", "t2"}
    assert set(frame["detected_level"]) == {"info", "warn", "error"}


def test_every_line_comes_once_from_a_loki_with_its_default_limits(foreign: Lines) -> None:
    assert got(read(foreign)) == Counter(foreign.lines)


def test_small_pages_lose_nothing(foreign: Lines) -> None:
    small = Loki(foreign.loki.transport, page=700)
    frame = small.lines(ALL, start=foreign.start, end=foreign.end)
    assert got(frame) == Counter(foreign.lines)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_one_nanosecond_with_more_lines_than_the_server_gives_at_once(foreign: Lines, direction: str) -> None:
    """As of programs that stamp whole seconds."""
    moment, name = (foreign.end - 60) * 10**9, f"crowd-{direction}"
    streams = [{"namespace": name, "pod": f"p{k}", **extra} for k in range(3) for extra in ({}, {"app": 'q"ü'})]
    made.push(foreign.url, [(stream, [(str(moment), f"line {k}") for k in range(1500)]) for stream in streams])
    made.push(foreign.url, [(streams[0], [(str(moment + 1), "the next one")])])
    span = {"start": foreign.start, "end": foreign.end}
    frame = foreign.loki.lines(f'{{namespace="{name}"}} |= "n"', direction=direction, **span)  # type: ignore[arg-type]
    assert len(frame) == 6 * 1500 + 1
    assert frame.groupby(["pod", "app"], observed=True).size().min() == 1500


@pytest.mark.parametrize(("direction", "place"), [("forward", slice(None, 500)), ("backward", slice(-1, -501, -1))])
def test_a_limit_gives_the_first_or_last_lines(logged: Lines, direction: str, place: slice) -> None:
    frame = read(logged, limit=500, direction=direction)
    assert pd.DatetimeIndex(frame.index).asi8.tolist() == [line[0] for line in logged.lines[place]]
    assert frame.attrs["complete"] is False


def test_parsed_labels_and_filters(logged: Lines) -> None:
    query = f'{ALL} |= "level=error" | logfmt | level="error"'
    frame = logged.loki.lines(query, start=logged.start, end=logged.end)
    assert len(frame) == sum("level=error" in text for _, _, text in logged.lines)
    assert "msg" in frame.attrs["parsed"]


def test_lines_that_a_stage_cannot_parse_are_counted_too(logged: Lines) -> None:
    frame = logged.loki.lines(f"{ALL} | json", start=logged.start, end=logged.end, limit=None)
    assert len(frame) == len(logged.lines)


def test_metric_queries_add_up_to_the_lines(logged: Lines) -> None:
    end = logged.end // 60 * 60 + 60
    query = f"sum by (detected_level) (count_over_time({ALL} [1m]))"
    frame = logged.loki.query_range(query, start=logged.start // 60 * 60, end=end, step="1m")
    assert frame.columns.names == ["detected_level"]
    assert frame.sum().sum() == len(logged.lines)
    assert frame.index.to_series().diff().dropna().eq(pd.Timedelta("1min")).all()
    assert logged.loki.count(ALL, start=logged.start, end=logged.end) == len(logged.lines)


def test_what_the_server_says_of_its_streams(logged: Lines) -> None:
    assert {"app", "namespace", "pod"} <= set(logged.loki.labels("2h"))
    assert set(logged.loki.label_values("app", "2h")) == {stream["app"] for stream in STREAMS}
    assert len(logged.loki.series(ALL, "2h")) == len(STREAMS)
    assert {"level", "msg"} <= set(logged.loki.detected_fields(ALL, "2h")["label"])
    assert logged.loki.volume(ALL, "2h", by=["app"]).to_numpy().max() > 0
    assert logged.loki.ready()


def test_a_bad_query_says_where(logged: Lines) -> None:
    with pytest.raises(BadQuery, match="parse error"):
        logged.loki.lines('{namespace="made"} | nonsense ===', "1h")


def test_pages_replay(foreign: Lines, tmp_path: object) -> None:
    asked = {"start": foreign.start, "end": foreign.end}
    recorded = Loki(Recording(foreign.loki.transport, str(tmp_path))).lines(ALL, **asked)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(Loki(Replay(str(tmp_path))).lines(ALL, **asked), recorded)  # type: ignore[arg-type]


def test_every_named_query_is_one_that_the_server_understands(logged: Lines) -> None:
    queries = Catalog(None, logged.loki)
    frame = queries.log_volume_by_level(window="1h", namespace="made")
    assert frame.sum().sum() >= len(logged.lines) * 0.9
    assert len(queries.error_lines(window="1h")) == sum("level=error" in text for _, _, text in logged.lines)
    assert len(queries.noisy_pods(window="1h", top=2)) == 2
    for name in dir(queries):
        if name != "table" and getattr(queries, name).named.source == "loki":
            getattr(queries, name)(window="30m")
