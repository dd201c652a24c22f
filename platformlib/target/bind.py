"""What the first step of every notebook calls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformlib.settings import load
from platformlib.target.facade import Target
from platformlib.target.locate import resolve


def bind(platform: str | Path | Mapping[str, Any]) -> Target:
    """Validate a platform, touch its cluster if there is one, and show what is meant.

    Args:
        platform: path of a parameters file, or the value of its `platform` key.

    Raises:
        SettingsError: with every fault of the parameters.
        WrongCluster: the kubeconfig leads to a cluster that carries another platform.
    """
    from IPython.display import display

    target = Target(load(platform if isinstance(platform, Mapping) else resolve(platform)))
    display(target.touch().style.hide(axis="index"))
    return target
