"""One look for all pictures: colours that a name keeps, ink that follows the page's theme.

Every colour has a contrast of 3:1 or more on white and on JupyterLab's dark background.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PALETTE = ("#2B7BBA", "#D9660B", "#1E8F63", "#C4528F", "#3A9CC9", "#C23B3B", "#8763C6", "#8A8300", "#6B7A8C", "#9A6A3A")
DASHES: tuple[tuple[int, ...], ...] = ((), (5, 3))
OTHERS = "#8A949E"
INK = "currentColor"  # the page's text colour, in either theme
GOOD, BAD = "#1E8F63", "#C23B3B"
SEVERITIES: Mapping[str, str] = {"info": "#2B7BBA", "warning": "#C98500", "error": "#C23B3B"}
LEVELS: Mapping[str, str] = {
    "critical": "#A3282F",
    "fatal": "#B8434A",
    "error": "#C23B3B",
    "warn": "#C98500",
    "info": "#2B7BBA",
    "debug": "#5F93B8",
    "trace": "#7C9AAE",
    "unknown": "#8A949E",
}
MEANT: Mapping[str, str] = {
    "Running": GOOD, "Succeeded": "#2B7BBA", "Pending": "#C98500", "Failed": BAD, "Unknown": OTHERS,
    "NOERROR": GOOD, "NXDOMAIN": "#C98500", "SERVFAIL": BAD, "pass": GOOD, "fail": BAD, "others": OTHERS,
}  # fmt: skip
CONFIG: Mapping[str, Any] = {
    "background": None,
    "view": {"stroke": None},
    "font": "sans-serif",
    "title": {"color": INK, "subtitleColor": INK, "fontSize": 14, "subtitleFontSize": 11, "subtitlePadding": 4},
    "text": {"color": INK, "fontSize": 11},
    "rule": {"color": INK},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "tickColor": INK,
        "domainColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.12,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
    },
}


@dataclass(frozen=True)
class Look:
    """How a series is drawn: its colour, and the dashes that tell apart two of one colour."""

    color: str
    dash: tuple[int, ...] = ()


LOOKS = tuple(Look(color, dash) for dash in DASHES for color in PALETTE)


class Looks:
    """Gives each name one look for good.

    Declared names (a platform's nodes and namespaces) get theirs by their order, so that they look alike in all
    notebooks. Any other name prefers the look that its checksum points to, and gets the next one if another name has
    that already.
    """

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def declare(self, names: Iterable[str]) -> None:
        """Give looks in this order to names that have none."""
        for name in names:
            if name not in self._given:
                self._given[name] = self._free(len(self._given) % len(LOOKS))

    def of(self, name: str) -> Look:
        """The look of one name."""
        if name in MEANT:
            return Look(MEANT[name])
        if name not in self._given:
            self._given[name] = self._free(zlib.crc32(name.encode()) % len(PALETTE))
        return LOOKS[self._given[name]]

    def all(self, names: Sequence[str]) -> list[Look]:
        """The looks of several names, asked for in alphabetical order so that rank does not decide."""
        return [{name: self.of(name) for name in sorted(set(names))}[name] for name in names]

    def _free(self, wanted: int) -> int:
        taken = set(self._given.values())
        places = [(wanted + step) % len(LOOKS) for step in range(len(LOOKS))]
        return next((place for place in places if place not in taken), wanted)


looks = Looks()
"""The looks of this process: one platform's names keep theirs in all its pictures."""


def declare(names: Iterable[str]) -> None:
    """Fix the colours of names in their order; `pl.bind` does so for nodes and namespaces."""
    looks.declare(names)
