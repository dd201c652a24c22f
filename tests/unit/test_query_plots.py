"""Pictures: every kind of every size draws, names what it leaves out, and says in words when there is nothing."""

from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from platformlib.errors import QueryError
from platformlib.plots import Picture, plot, summary
from platformlib.plots.draw import PICTURES
from platformlib.plots.logs import counted, ordered
from platformlib.plots.reduce import reduced
from platformlib.plots.units import formatted

TIMES = pd.date_range("2026-11-23T12:00", periods=60, freq="15s", tz="UTC", name="time")


def wide(count: int, picture: str = "series", unit: str = "bytes") -> pd.DataFrame:
    """`count` series, the k-th of height k."""
    columns = pd.Index([str(k) for k in range(count)], name="le" if picture == "buckets" else "pod")
    frame = pd.DataFrame(np.tile(np.arange(count, dtype=float), (len(TIMES), 1)), TIMES, columns)
    frame.attrs |= {"picture": picture, "unit": unit, "title": "A $title_with$ %s", "window": (TIMES[0], TIMES[-1])}
    return frame


def words(made: Picture) -> str:
    return " | ".join(text.get_text() for text in made.findobj(Text) if isinstance(text, Text))


def colours(made: Picture) -> int:
    """How many colours its PNG has; a blank one has one."""
    return len(Image.open(BytesIO(made._repr_png_())).convert("RGB").getcolors(1 << 24) or ())


EVENTS = pd.DataFrame(
    {"kind": "Pod", "namespace": [f"n{k % 20}" for k in range(60)], "object": "o", "what": "w", "severity": "error"},
    TIMES,
)
LINES = pd.DataFrame({"line": "text", "detected_level": ["error", "info", ""] * 20}, TIMES)


SIZES = [(name, count) for name in sorted(PICTURES) for count in (1, 5000)]


@pytest.mark.parametrize(("picture", "count"), [one for one in SIZES if one[0] != "lanes" and one != ("levels", 5000)])
def test_every_picture_draws_one_to_thousands_of_series(picture: str, count: int) -> None:
    made = plot(wide(count, picture))
    assert colours(made) > 10
    assert "A $title_with$ %s" in words(made)
    if count == 5000 and picture not in ("table", "buckets"):
        assert "others (49" in words(made)


def test_events_and_lines_draw() -> None:
    lanes = plot(EVENTS, "Events", picture="lanes")
    assert "Pod n3" in words(lanes)
    assert "others (6)" in words(lanes)
    assert "error (60)" in words(lanes)
    assert "unknown" in words(plot(LINES, picture="levels"))


@pytest.mark.parametrize("picture", sorted(PICTURES))
def test_nothing_is_said_in_words(picture: str) -> None:
    empty = wide(0, picture)
    empty.attrs["empty"] = "nobody was there"
    made = plot(empty)
    assert "No data from 2026-11-23 12:00:00 to 2026-11-23 12:14:45 UTC. That is so when nobody was there." in words(
        made
    )
    assert "No data" in words(plot(wide(3, picture) * np.nan))


@pytest.mark.parametrize(
    "values", [[np.nan, 5, np.nan], [np.inf, 1, 2], [0, 0, 0], [-5, -1, 3], [1e300, 0, 1], [7, 7, 7]]
)
@pytest.mark.parametrize("picture", ["series", "area", "heat", "bar"])
def test_strange_values_draw(values: list[float], picture: str) -> None:
    frame = pd.DataFrame({"a": values}, TIMES[:3])
    assert colours(plot(frame, "x", picture=picture)) > 10


def test_a_gap_is_not_drawn_over() -> None:
    frame = wide(1) + 1
    frame.iloc[20:40] = np.nan
    (axes,) = plot(frame).axes
    line = axes.lines[0].get_ydata()
    assert isinstance(line, np.ndarray)
    assert np.isnan(line[20:40].astype(float)).all()


def test_a_lone_sample_is_a_dot() -> None:
    frame = wide(1) + 1
    frame.iloc[:30] = np.nan
    frame.iloc[31:] = np.nan
    (axes,) = plot(frame).axes
    dots: Any = axes.lines[1].get_ydata()
    assert list(dots) == [1.0]


def test_times_are_utc_and_values_have_units() -> None:
    made = plot(wide(3, unit="ratio"))
    axes = made.axes[0]
    assert isinstance(axes, Axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("UTC", "share")
    assert "2026-11-23 12:00 to 2026-11-23 12:14 UTC" in words(made)


def test_incomplete_data_is_said_so() -> None:
    frame = wide(2)
    frame.attrs |= {"complete": False, "warnings": ["results truncated"]}
    assert "INCOMPLETE   ·   results truncated" in words(plot(frame))


def test_the_table_beside_a_picture() -> None:
    table = summary(wide(25))
    assert list(table.index) == [*(str(k) for k in range(24, 14, -1)), "others (15)"]
    assert list(table.loc["24"]) == [24.0] * 4


def test_others_are_never_a_single_one() -> None:
    assert reduced(wide(11)).others.shape[1] == 0
    assert reduced(wide(12)).others_name == "others (2)"


def test_an_unknown_picture_names_the_known() -> None:
    with pytest.raises(QueryError, match="area, bar"):
        plot(wide(1), picture="pie")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "bytes", "0 B"),
        (1536, "bytes", "1.5 KiB"),
        (1023.9, "bytes", "1 KiB"),
        (1024**3 * 37, "bytes", "37 GiB"),
        (2048, "bytes per second", "2 KiB/s"),
        (0.371, "ratio", "37.1 %"),
        (0.25, "seconds", "250 ms"),
        (90, "seconds", "1.5 min"),
        (0, "seconds", "0 s"),
        (12_345, "requests per second", "12.3 k/s"),
        (1.5, "cores", "1.5"),
        (float("nan"), "cores", "nan"),
    ],
)
def test_units(value: float, unit: str, text: str) -> None:
    assert formatted(value, unit) == text


def test_levels_are_counted_and_ordered_by_gravity() -> None:
    counts = ordered(counted(LINES))
    assert list(counts.columns) == ["error", "info", "unknown"]
    assert counts.to_numpy().sum() == 60
    assert list(ordered(pd.DataFrame({"info": [1], "WARNING": [2], "warn": [3]})).columns) == ["warn", "info"]
