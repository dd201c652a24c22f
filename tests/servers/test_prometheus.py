"""Frames from a real Prometheus: the samples that were put in, and what the server says of itself."""

import time

import numpy as np
import pandas as pd
import pytest

from platformlib.errors import BadQuery, QueryError
from platformlib.query import Catalog, Prometheus, Recording, Replay, ranges
from tests.servers.conftest import POINTS, STEP, Samples


def span(measured: Samples) -> dict[str, float]:
    return {"start": measured.times[0] / 1000, "end": measured.times[-1] / 1000, "step": STEP}


@pytest.mark.parametrize("limit", [11_000, 100])
def test_the_samples_come_out_as_they_were_put_in(
    measured: Samples, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "POINTS_LIMIT", limit)
    frame = measured.prometheus.query_range("made", **span(measured))  # type: ignore[arg-type]
    assert frame.shape == (POINTS, 20)
    assert set(frame.columns.get_level_values("odd")) == {'a"b\\\nü'}
    for number in range(20):
        (place,) = np.flatnonzero(frame.columns.get_level_values("i") == str(number))
        np.testing.assert_array_equal(frame.iloc[:, int(place)], measured.values[number])
    np.testing.assert_array_equal(pd.DatetimeIndex(frame.index).asi8, measured.times)


def test_more_points_than_one_query_may_have(measured: Samples) -> None:
    frame = measured.prometheus.query_range('made{i="5"}', "2h", step=0.25)
    assert len(frame) == 2 * 3600 * 4 + 1
    assert frame.notna().mean().iloc[0] > 0.9


def test_a_gap_stays_a_gap(measured: Samples) -> None:
    frame = measured.prometheus.query_range("gap", **span(measured))  # type: ignore[arg-type]
    # Prometheus looks back five minutes, so a gap begins that much later.
    assert frame.iloc[300 + 300 // STEP + 1 : 400].isna().all().all()
    assert frame.iloc[[0, 299, 401, -1]].notna().all().all()
    assert len(frame) == POINTS


def test_a_bad_query_says_where(measured: Samples) -> None:
    with pytest.raises(BadQuery, match="parse error"):
        measured.prometheus.query("sum(")
    with pytest.raises(BadQuery, match="duplicate series"):
        measured.prometheus.query_range("made * on(odd) made", "1h")


def test_a_query_that_takes_too_long_is_stopped(measured: Samples) -> None:
    with pytest.raises(QueryError, match="shorter window"):
        measured.prometheus.query_range(
            "sum_over_time(made[3h:1s])",
            **span(measured),  # type: ignore[arg-type]
            params={"timeout": "1ms"},
        )


def test_what_the_server_says_of_itself(measured: Samples) -> None:
    targets = measured.prometheus.targets()
    assert dict(zip(targets["job"], targets["health"], strict=True))["nobody"] == "down"
    assert set(measured.prometheus.rules()["name"]) == {"job:up:sum", "TargetDown"}
    assert "made" in measured.prometheus.label_values("__name__")
    assert len(measured.prometheus.series('made{i=~"1|2"}')) == 2
    assert set(measured.prometheus.metadata("go_goroutines")["type"]) == {"gauge"}
    assert measured.prometheus.ready()
    assert {"i", "odd"} <= set(measured.prometheus.labels("made"))
    assert measured.prometheus.exemplars("made").empty
    explained = measured.prometheus.exemplars("explained")
    assert explained[["exemplar", "value"]].to_dict("records") == [{"exemplar": '{trace_id="a\\"b"}', "value": 2.5}]
    assert measured.prometheus.alerts()["state"].isin(["pending", "firing"]).all()


def test_native_histograms_of_the_server_itself(measured: Samples) -> None:
    query = 'prometheus_http_request_duration_seconds{handler="/api/v1/query"}'
    found = measured.prometheus.histograms(query, "2m", step=5)
    assert set(found["handler"]) == {"/api/v1/query"}
    for _, buckets in found.groupby(level="time"):
        assert buckets["bucket"].sum() == buckets["count"].iloc[0] > 0
        assert (buckets["lower"] < buckets["upper"]).all()
    floats = measured.prometheus.query_range(query, "2m", step=5)
    assert floats.empty
    assert "native histograms are left out" in floats.attrs["warnings"][0]
    median = measured.prometheus.query_range(f"histogram_quantile(0.5, {query})", "2m", step=5)
    assert 0 < median.to_numpy()[-1, 0] < 1


def test_truncated_answers_are_incomplete_and_say_so(measured: Samples) -> None:
    frame = measured.prometheus.query("made", params={"limit": "3"})
    assert len(frame) == 3
    assert frame.attrs["complete"] is False
    assert "truncated" in frame.attrs["warnings"][0]


def test_code_for_prometheusconnect_works_as_it_is(measured: Samples) -> None:
    for prometheus in (Prometheus(measured.url), measured.prometheus):
        assert prometheus.check_prometheus_connection()
        assert "made" in prometheus.all_metrics()
        (one,) = prometheus.get_current_metric_value("made", {"i": "7"})
        assert one["metric"]["i"] == "7"
        assert len(prometheus.query('made{i="7"}')) == 1


def test_a_recording_replays(measured: Samples, tmp_path: object) -> None:
    recording = Prometheus(transport=Recording(measured.prometheus.transport, str(tmp_path)))
    frame = recording.query_range('made{i=~"3|4"}', "90m")
    again = Prometheus(transport=Replay(str(tmp_path))).query_range('made{i=~"3|4"}', "90m")
    pd.testing.assert_frame_equal(frame, again)


def test_every_named_query_is_one_that_the_server_understands(measured: Samples) -> None:
    queries = Catalog(measured.prometheus)
    asked = [name for name in dir(queries) if name != "table" and getattr(queries, name).named.source == "prometheus"]
    frames = {name: getattr(queries, name)(window="30m") for name in asked}
    assert len(frames) > 25
    assert not frames["targets_up"].empty
    deadline = time.monotonic() + 60  # a rate needs two scrapes of the server by itself
    while (ingested := queries.samples_ingested(window="30m")).empty and time.monotonic() < deadline:
        time.sleep(1)
    assert not ingested.empty
