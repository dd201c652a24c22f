"""The platform's kubeconfig: where it is kept, how a fetched one is written there and deleted again."""

import os
from pathlib import Path
from typing import Any

import yaml

from platformlib.errors import ClusterError, Fault, SettingsError
from platformlib.paths import state_dir
from platformlib.settings import Settings


def path(settings: Settings) -> Path:
    """Where this platform's kubeconfig is kept."""
    return settings.cluster.kubeconfig or state_dir(settings.name) / "kubeconfig"


def adopt(settings: Settings, text: str, server: str) -> Path:
    """Keep a fetched kubeconfig under the platform's name, with an address that is reached from here.

    Raises:
        SettingsError: a file with other clusters is there; it is left as it is.
    """
    config: dict[str, Any] = yaml.safe_load(text)
    name, user = settings.name, f"{settings.name}-admin"
    cluster = config["clusters"][0]["cluster"] | {"server": server}
    config |= {
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": config["users"][0]["user"]}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    target = path(settings)
    if target.exists() and not _own(target, name):
        expected = "a file of its own, or none: this one has other clusters, and was left as it is"
        raise SettingsError([Fault("cluster.kubeconfig", str(target), expected)])
    _write_private(target, yaml.safe_dump(config))
    return target


def forget(settings: Settings) -> None:
    """Delete the platform's kubeconfig; a file with other clusters stays."""
    if _own(path(settings), settings.name):
        path(settings).unlink()


def _own(target: Path, name: str) -> bool:
    """Whether a file has this platform's cluster and no other."""
    try:
        document = yaml.safe_load(target.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    entries = document.get("clusters") if isinstance(document, dict) else None
    return isinstance(entries, list) and [it.get("name") for it in entries if isinstance(it, dict)] == [name]


def existing(settings: Settings) -> Path:
    """The kubeconfig that must be there already."""
    target = path(settings)
    if not target.exists():
        raise ClusterError(f"no kubeconfig at {target}", fix="install the cluster first, or set cluster.kubeconfig")
    return target


def _write_private(target: Path, content: str) -> None:
    """Never readable by others, not even for a moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    new.replace(target)
