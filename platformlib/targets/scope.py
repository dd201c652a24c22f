"""How far an installation goes, and whether it goes at all: so that a notebook need not branch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platformlib.layers.model import chosen
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

DRY = "dry run"
CHANGES = frozenset({"install", "join", "upgrade", "claim", "release", "wait", "verify", "prune", "uninstall"})
"""What a rehearsal leaves out: what changes something, and what would wait for the change."""


@dataclass(frozen=True)
class Scope:
    """The layers up to one, and whether anything is to be changed."""

    layers: tuple[str, ...]
    until: str | None = None
    dry_run: bool = False

    def why_not(self, layer: str) -> str:
        """Why a layer is left out; nothing if it is not."""
        if layer in self.layers:
            return ""
        return f"it comes after `{self.until}`" if self.until else "it is not among the platform's layers"


def scope(settings: Settings, until: str | None, *, dry_run: bool) -> Scope:
    """The layers of the settings up to and including `until`. Raises PlatformError for one that is not among them."""
    return Scope(tuple(layer.name for layer in chosen(settings.layers, until)), until, dry_run)


class LeftOut:
    """Stands for a part that is not touched: each of its steps does nothing, and says so in a table."""

    def __init__(self, part: str, why: str) -> None:
        self.part, self.why = part, why

    def __repr__(self) -> str:
        return f"{self.part}: left out, {self.why}"

    def __getattr__(self, name: str) -> Callable[..., "pd.DataFrame"]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: self._table(name)

    def _table(self, step: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame({"part": [self.part], "step": [step], "left out": [self.why]})


class Rehearsal:
    """A driver or layer in a dry run: it reads and tries, and changes nothing."""

    def __init__(self, inner: Any, part: str) -> None:
        self._inner, self._left = inner, LeftOut(part, DRY)

    def __repr__(self) -> str:
        return f"{self._inner!r} (dry run)"

    def __getattr__(self, name: str) -> Any:
        if name in CHANGES:
            return getattr(self._left, name)
        return getattr(self._inner, name)

    def apply(self, **options: Any) -> Any:
        """Server-side dry run."""
        return self._inner.apply(**{**options, "dry_run": True})


class NoQueries:
    """Stands for the named queries where nothing can be asked: each answers with an empty frame that says why."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __getattr__(self, name: str) -> Callable[..., "pd.DataFrame"]:
        from platformlib.query.catalog import named_queries

        if name not in named_queries():
            raise AttributeError(f"no query is named {name!r}")
        return lambda **_: self._empty(named_queries()[name].title)

    def _empty(self, title: str) -> "pd.DataFrame":
        import pandas as pd

        frame = pd.DataFrame()
        frame.attrs |= {"title": title, "empty": f"the layer observability is left out: {self.why}"}
        return frame
