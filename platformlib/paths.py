"""Where the package keeps things: a cache that may be deleted, and state that may not."""

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path


def cache_dir() -> Path:
    """Built binaries, images and downloads; `PLATFORMLIB_CACHE` moves it."""
    return Path(os.environ.get("PLATFORMLIB_CACHE") or user_cache_path("platformlib")).absolute()


def state_root() -> Path:
    """The folder of all platforms' state folders; `PLATFORMLIB_STATE` moves it."""
    return Path(os.environ.get("PLATFORMLIB_STATE") or user_state_path("platformlib")).absolute()


def state_dir(name: str) -> Path:
    """Keys, known hosts, kubeconfig and journals of the platform `name`. Made if it is not there.

    A lab has a platform name of its own, and its state folder holds the mark `lab.json`.
    """
    path = state_root() / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
