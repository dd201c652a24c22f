"""What the first step of every notebook calls."""

from collections.abc import Mapping
from pathlib import Path

from platformlib.errors import Fault, SettingsError
from platformlib.settings import load
from platformlib.targets.facade import Target
from platformlib.targets.locate import resolve


def bind(platform: object, *, until: str | None = None, dry_run: bool = False) -> Target:
    """Validate a platform, touch its cluster if there is one, and show what is meant.

    Args:
        platform: path of a parameters file, or the value of its `platform` key.
        until: the last layer to work on; default: all that the parameters name.
        dry_run: try and tell what would be changed, and change nothing.

    Raises:
        SettingsError: with every fault of the parameters.
        WrongCluster: the kubeconfig leads to a cluster that carries another platform.
    """
    from IPython.display import display

    if not isinstance(platform, str | Path | Mapping):
        raise SettingsError(
            [Fault("platform", type(platform).__name__, "a path, or a mapping as in a parameters file")]
        )
    settings = load(platform if isinstance(platform, Mapping) else resolve(platform))
    target = Target(settings, until=until, dry_run=dry_run)
    _wide_tables()
    display(target.touch())  # type: ignore[no-untyped-call]
    return target


def _wide_tables() -> None:
    """A cause or a fix that is cut off helps nobody."""
    import pandas as pd

    pd.set_option("display.max_colwidth", 160)
    pd.set_option("display.max_rows", 100)
