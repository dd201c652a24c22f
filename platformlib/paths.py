"""Where the package keeps things: a cache that may be deleted, and state that may not."""

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path


def cache_dir() -> Path:
    """Built binaries, images and downloads; `PLATFORMLIB_CACHE` moves it."""
    return Path(os.environ.get("PLATFORMLIB_CACHE") or user_cache_path("platformlib"))


def state_dir(name: str) -> Path:
    """Keys, known hosts, kubeconfig and journals of the platform `name`; `PLATFORMLIB_STATE` moves it."""
    root = os.environ.get("PLATFORMLIB_STATE") or user_state_path("platformlib")
    path = Path(root) / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
