"""Units of durations, as parameters, Prometheus and Loki write them: 90s, 15m, 1h30m, 7d."""

SECOND = 1_000_000_000  # nanoseconds; so are all of these
UNITS = {"ms": SECOND // 1000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
UNITS |= {"w": 7 * UNITS["d"], "y": 365 * UNITS["d"]}
UNIT = "|".join(UNITS)  # one unit, as a regular expression


def seconds(text: str) -> float:
    """A single number with its unit, such as 30s or 7d."""
    number = text.rstrip("msdhwy")
    return float(number) * UNITS[text.removeprefix(number)] / SECOND
