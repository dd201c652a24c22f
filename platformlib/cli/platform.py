"""Commands on a platform: check, status, diff, uninstall; and the list of named queries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformlib.cli import show
from platformlib.errors import RunbookError

if TYPE_CHECKING:
    from platformlib.settings import Settings

Files = Annotated[
    list[Path],
    typer.Option(
        "--file", "-f", help="Parameters file; may be repeated, a later one has the last word.", metavar="FILE"
    ),
]
Layer = Annotated[
    str | None, typer.Option("--layer", help="Only this layer: cluster, security, storage, observability.")
]


def _settings(files: list[Path]) -> "Settings":
    from platformlib.runbook.given import from_files
    from platformlib.settings import load

    return load(files[0]) if len(files) == 1 else load(from_files(files).get("platform", {}))


def check(file: Files) -> None:
    """Validate a parameters file and say what would be built. Touches nothing."""
    from platformlib.targets.plan import plan

    settings = _settings(file)
    show.table(plan(settings), f"platform {settings.name}: valid")


def status(file: Files) -> None:
    """The cluster's nodes, and each layer's objects: how many there are, how many are ready."""
    from platformlib.targets import Target

    target = Target(_settings(file))
    show.table(target.touch(), "target")
    show.table(target.members.table()[["node", "role", "ready", "version", "address"]], "nodes")
    objects = target.status()
    counts = objects.groupby("layer", sort=False)["ready"].agg(objects="size", ready="sum").reset_index()
    show.table(counts, "layers")
    show.table(objects[~objects["ready"].astype(bool)], "not ready")


def diff(file: Files, layer: Layer = None) -> None:
    """Where the cluster differs from the parameters, field by field. Changes nothing; exit status 3 if it differs."""
    from platformlib.targets import Target

    target = Target(_settings(file))
    target.touch()
    changes = target.layer(layer).diff() if layer else target.diff()
    show.table(changes, "differences")
    raise typer.Exit(show.OK if changes.empty else show.CHECK_FAILED)


def uninstall(
    file: Files,
    layer: Annotated[str, typer.Option("--layer", help="The layer to remove; those that need it must be gone first.")],
    confirm: Annotated[str, typer.Option("--confirm", help="The platform's name, to say that this one is meant.")],
) -> None:
    """Remove one layer, and the data in it."""
    from platformlib.targets import Target

    target = Target(_settings(file))
    if confirm != target.settings.name:
        raise RunbookError(f"--confirm {confirm!r} is not this platform", fix=f"--confirm {target.settings.name}")
    target.touch()
    show.table(target.layer(layer).uninstall(), f"removed: {layer}")


def queries() -> None:
    """The named queries: what each asks, its parameters and its unit."""
    from platformlib.query import Catalog

    show.table(Catalog().table().drop(columns="description"))
