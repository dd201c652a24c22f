"""Units as people read them (1.5 GiB, 250 ms, 37 %, 12 k/s), and the ticks that are round in them."""

from math import ceil, floor, isfinite, log2, log10

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
DECIMAL = ("", " k", " M", " G", " T")
SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
ROUND_SECONDS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 5, 15, 30, 60, 300, 900, 1800, 3600, 21600, 86400)
PER_SECOND = " per second"
KIBI, KILO = 1024.0, 1000.0
TICKS = 5
SPOKEN = ("bytes", "seconds", "ratio")  # units that every tick names, so that the axis need not


def formatted(value: float, unit: str = "") -> str:
    """A number with its unit, three digits."""
    if not isfinite(value):
        return "—" if value != value else str(value)  # noqa: PLR0124  NaN is the one value unequal to itself
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
    text = f"{value:.3g}" if abs(value) < KILO else f"{value:.0f}" if abs(value) < base else f"{value:.4g}"
    space = " " if base == KIBI else ""
    return f"{text}{space}{names[place]}"


def scale(largest: float, unit: str) -> tuple[float, str]:
    """What to divide by, and the suffix, so that values up to `largest` read well: 1048576 and " MiB"."""
    suffix, base_unit = ("/s", unit.removesuffix(PER_SECOND)) if unit.endswith(PER_SECOND) else ("", unit)
    if base_unit == "ratio":
        return 0.01, f" %{suffix}"
    if base_unit == "seconds":
        size, name = next((pair for pair in SECONDS if largest >= pair[0]), SECONDS[-1])
        return size, f" {name}{suffix}"
    base, names = (KIBI, BINARY) if base_unit == "bytes" else (KILO, DECIMAL)
    place = 0
    while largest >= base ** (place + 1) and place < len(names) - 1:
        place += 1
    space = " " if base_unit == "bytes" else ""
    return base**place, f"{space}{names[place]}{suffix}"


def ticks(low: float, high: float, unit: str, *, whole: bool = False) -> list[float]:
    """At most six values between `low` and `high`, round in their unit: 512 MiB and 1 GiB, 0.25 and 0.5."""
    step = _step((high - low) / TICKS, unit)
    step = max(1.0, ceil(step)) if whole else step
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _step(wanted: float, unit: str) -> float:
    if wanted <= 0:
        return 1.0
    if unit.startswith("bytes"):
        return 2.0 ** max(0, ceil(log2(wanted)))
    if unit.startswith("seconds"):
        return next((float(size) for size in ROUND_SECONDS if size >= wanted), _decimal(wanted))
    return _decimal(wanted)


def _decimal(wanted: float) -> float:
    size = 10.0 ** floor(log10(wanted))
    return float(next(size * digit for digit in (1, 2, 2.5, 5, 10) if size * digit >= wanted * (1 - 1e-9)))


def axis_name(unit: str) -> str:
    """What stands above the axis: the unit, unless every tick has it already."""
    return "" if unit.removesuffix(PER_SECOND) in SPOKEN else unit
