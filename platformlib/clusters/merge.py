"""A platform's kubeconfig merged into the user's own file: only when asked, and only what is the platform's."""

import os
from pathlib import Path
from typing import Any

import yaml

from platformlib.errors import ClusterError

LISTS = ("clusters", "users", "contexts")


def merge(source: Path, target: Path | None = None, *, activate: bool = False) -> Path:
    """Put the entries of `source` into `target` (default ~/.kube/config), which keeps all others; mode 0600.

    Entries of the same names are replaced. The current context changes only with `activate`, or where there is none.

    Raises:
        ClusterError: the target is no kubeconfig; it is left as it is.
    """
    path = target or Path("~/.kube/config").expanduser()
    own: dict[str, Any] = yaml.safe_load(source.read_text("utf-8"))
    merged = _read(path)
    for kind in LISTS:
        names = {entry["name"] for entry in own[kind]}
        merged[kind] = [entry for entry in merged.get(kind) or [] if entry["name"] not in names] + own[kind]
    if activate or not merged.get("current-context"):
        merged["current-context"] = own["current-context"]
    _write(path, yaml.safe_dump(merged, sort_keys=False))
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8")) if path.exists() else None
    except yaml.YAMLError:
        document = "no YAML"
    empty = {"apiVersion": "v1", "kind": "Config", "preferences": {}}
    document = empty if document is None else document
    if not isinstance(document, dict) or document.get("kind") != "Config":
        raise ClusterError(f"{path} is no kubeconfig; it was left as it is", fix="name another file to merge into")
    return document


def _write(path: Path, content: str) -> None:
    """Never readable by others, not even for a moment; a link stays a link."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    real = path.resolve()
    new = real.with_name(f".{real.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    new.replace(real)
