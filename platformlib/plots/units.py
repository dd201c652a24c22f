"""Units as people read them: 1.5 GiB, 250 ms, 37 %, 12 k/s."""

from math import ceil, floor, isfinite, log2
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
DECIMAL = ("", " k", " M", " G", " T")
SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
PER_SECOND = " per second"
KIBI, KILO = 1024.0, 1000.0


def formatted(value: float, unit: str = "") -> str:
    """A number with its unit, three digits."""
    if not isfinite(value):
        return str(value)
    if unit.endswith(PER_SECOND):
        return formatted(value, unit.removesuffix(PER_SECOND)) + "/s"
    if unit == "ratio":
        return f"{value * 100:.3g} %" if abs(value) < KILO / 100 else f"{value * 100:,.0f} %"
    if unit == "seconds":
        return _seconds(value)
    base, names = (KIBI, BINARY) if unit == "bytes" else (KILO, DECIMAL)
    return _scaled(value, base, names)


def _seconds(value: float) -> str:
    size, name = next(((size, name) for size, name in SECONDS if abs(value) >= size), (1e-6, "µs"))
    return f"{value / size:.3g} {name}" if value else "0 s"


def _scaled(value: float, base: float, names: tuple[str, ...]) -> str:
    place = 0
    while abs(value) >= base * 0.9995 and place < len(names) - 1:
        value, place = value / base, place + 1
    text = f"{value:.3g}" if abs(value) < base else f"{value:.4g}"
    space = " " if base == KIBI else ""
    return f"{text}{space}{names[place]}"


def formatter(unit: str) -> FuncFormatter:
    """Ticks of an axis of that unit."""
    return FuncFormatter(lambda value, _: formatted(value, unit))


class Binary(MaxNLocator):
    """Ticks at multiples of a power of two: 512 MiB, 1 GiB, 1.5 GiB."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Five at most, and one before and after."""
        step = 2.0 ** ceil(log2(max(abs(vmax - vmin), 1.0) / 5))
        return np.arange(floor(vmin / step), ceil(vmax / step) + 1) * step


def locator(unit: str, *, whole: bool = False) -> MaxNLocator:
    """Places of ticks that are round in that unit; `whole` keeps them on whole numbers."""
    if unit.startswith("bytes"):
        return Binary()
    return MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole)


def axis_name(unit: str) -> str:
    """What stands beside the axis."""
    return {"ratio": "share", "": ""}.get(unit, unit)
