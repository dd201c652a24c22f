"""The options of config.yaml, from `k3s_options.yaml`: who takes them, which version brought them, whose they are."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

VERSION = re.compile(r"v?1\.(\d+)\.(\d+)\+k3s(\d+)")

Packaged = Literal["coredns", "servicelb", "traefik", "local-storage", "metrics-server"]
"""What `disable` can leave out."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        agent: whether an agent takes it; `server` likewise.
        owned: whether the driver sets it itself, so that parameters must not.
        since: the first release of each minor version that has it; empty: all have it.
    """

    name: str
    agent: bool
    server: bool
    owned: bool
    since: tuple[str, ...]

    def known_to(self, version: str) -> bool:
        """Whether a release has this option; a version that cannot be read is taken to have it."""
        if not self.since or not (found := VERSION.fullmatch(version)):
            return True
        wanted = tuple(map(int, found.groups()))
        first = {numbers[0]: numbers for each in self.since if (numbers := _numbers(each))}
        own = first.get(wanted[0])
        return wanted >= own if own else wanted[0] > max(first)


def _numbers(version: str) -> tuple[int, ...]:
    found = VERSION.fullmatch(version)
    return tuple(map(int, found.groups())) if found else ()


@cache
def options() -> dict[str, Option]:
    """Every documented option by its name."""
    document = yaml.safe_load(files("platformlib.settings").joinpath("k3s_options.yaml").read_text("utf-8"))
    return {
        name: Option(
            name,
            agent=role == "agent",
            server=rest.get("only") != "agent",
            owned=rest.get("owned", False),
            since=tuple(rest.get("since", ())),
        )
        for role in ("agent", "server")
        for name, rest in document[role].items()
    }


AGENT_OPTIONS = frozenset(name for name, option in options().items() if option.agent)
SERVER_OPTIONS = frozenset(name for name, option in options().items() if option.server)
OWNED = frozenset(name for name, option in options().items() if option.owned)
EXTRA_OPTIONS = frozenset(options()) - OWNED
