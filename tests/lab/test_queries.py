"""Every named query on the real platform: an answer, or a declared reason for having none."""

import pandas as pd
import pytest

import platformlib as pl
from platformlib.plots import Picture, plot
from platformlib.query.catalog import named_queries


@pytest.mark.parametrize("name", sorted(named_queries()))
def test_a_named_query_has_an_answer_and_a_picture(target: "pl.Target", name: str) -> None:
    named = named_queries()[name]
    frame = getattr(target.queries, name)(window="15m")
    assert not frame.empty or named.empty, f"{name} is empty and says no reason"
    # An API server that has just restarted makes Prometheus say that it smoothed a histogram: an info, no warning.
    assert [text for text in frame.attrs["warnings"] if not text.startswith("PromQL info")] == []
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"
    if not frame.empty and named.kind in ("range", "instant"):
        found = [label for label in (*frame.columns.names, *frame.columns) if isinstance(label, str)]
        assert set(named.labels) <= set(found)
    shown = plot(frame)
    assert (shown.svg if isinstance(shown, Picture) else shown._repr_html_()).startswith("<")


def test_lines_are_all_there_and_counted(target: "pl.Target") -> None:
    frame = target.queries.log_lines(start="-15m", end="-1m")
    assert len(frame) > 0
    assert frame.attrs["proven"] is True
    assert set(frame["node"]) == {node.name for node in target.settings.cluster.nodes}
