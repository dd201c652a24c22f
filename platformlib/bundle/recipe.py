"""What an artifact is made from, what happens while it is made, and the room in which it is made."""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from platformlib.errors import BundleError

EventKind = Literal["waiting", "started", "heartbeat", "finished", "reused", "cleared"]


@dataclass(frozen=True)
class Event:
    """One step of a build, for people who watch it. `elapsed` and `expected` are seconds of this artifact."""

    kind: EventKind
    artifact: str = ""
    message: str = ""
    elapsed: float = 0.0
    expected: float = 0.0

    def __str__(self) -> str:
        said = {
            "reused": "in the cache",
            "started": f"building, about {self.expected:.0f} s",
            "heartbeat": f"{self.elapsed:.0f} of about {self.expected:.0f} s",
            "finished": f"built in {self.elapsed:.0f} s",
        }.get(self.kind, self.kind)
        return ": ".join(part for part in (self.artifact, said, self.message) if part)


OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Tool:
    """A program of the host, and the Debian package that has it."""

    program: str
    package: str

    @property
    def present(self) -> bool:
        return shutil.which(self.program) is not None


@dataclass(frozen=True)
class Workspace:
    """Where one artifact is made: what is left in `output` becomes the artifact, `scratch` is thrown away."""

    output: Path
    scratch: Path
    log: Path
    inputs: Mapping[str, Path]
    go_caches: Path
    run: Callable[..., None]


@dataclass(frozen=True)
class Recipe:
    """How to make one artifact. Its key follows from `pins`, `version` and the keys of `inputs`, nothing else.

    `size` is what stays on disk until the bundle is whole (the artifact, and module sources), `peak` what is needed
    while it is being made; both in bytes. Raise `version` when `make` changes what it produces.
    """

    name: str
    layer: str
    make: Callable[[Workspace], None]
    pins: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    version: int = 1
    expected_seconds: float = 1.0
    size: int = 0
    peak: int = 0
    optional: bool = False


def upto(
    recipes: Iterable[Recipe], layers: Sequence[str], until: str | None, extra: Collection[str] = ()
) -> list[Recipe]:
    """The recipes of all layers up to and including `until`, in build order; all of them without it.

    Args:
        extra: optional recipes to include, by their names, with what is made of them.
    """
    recipes = [it for it in recipes if not it.optional or it.name in extra or set(extra) & set(it.inputs)]
    if until is None:
        return recipes
    if until not in layers:
        raise BundleError(f"there is no layer {until!r}", fix=f"choose one of {', '.join(layers)}")
    wanted = set(layers[: layers.index(until) + 1])
    return [recipe for recipe in recipes if recipe.layer in wanted]
