"""Commands on a platform: check, install, status, diff, claim, uninstall."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformlib.cli import show
from platformlib.errors import KubeError, RunbookError

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.layers.steps import Step
    from platformlib.settings import Settings
    from platformlib.targets import Target

DEFAULT = "../parameters/lab.yaml"  # as in the notebooks, seen from their folder
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--file",
        "-f",
        help="Parameters file; may be repeated, a later one has the last word. Default: parameters/lab.yaml.",
        metavar="FILE",
    ),
]
Layer = Annotated[str | None, typer.Option("--layer", help="Only this layer.", metavar="LAYER")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]


def _settings(files: list[Path] | None) -> "Settings":
    from platformlib.runbook.given import from_files
    from platformlib.runbook.notebook import PACKAGED
    from platformlib.settings import load
    from platformlib.targets import resolve

    given = files or [resolve(DEFAULT, PACKAGED)]
    return load(given[0]) if len(given) == 1 else load(from_files(given).get("platform", {}))


def _target(files: list[Path] | None, *, until: str | None = None, dry_run: bool = False) -> "Target":
    from platformlib.layers.steps import Steps
    from platformlib.targets import Target

    steps = Steps(lambda line: show.out.print(line, markup=False, soft_wrap=True), _shown)
    return Target(_settings(files), until=until, dry_run=dry_run, steps=steps)


def _shown(step: "Step", table: "pd.DataFrame") -> None:
    """A step as one line, and the rows of it that tell of a change."""
    show.out.print(f"{step.part} {step.step}: {step.rows} rows, {step.changed} changed, {step.seconds:.1f} s")
    if "action" in table.columns:
        told = table[~table["action"].isin(["unchanged", "absent"])]
        if len(told):
            show.table(told)


def check(file: Files = None) -> None:
    """Validate a parameters file and say what would be built. Touches nothing."""
    from platformlib.targets import Target

    settings = _settings(file)
    show.table(Target(settings).plan(), f"platform {settings.name}: valid")


def install(
    file: Files = None,
    until: Annotated[str | None, typer.Option("--until", help="The last layer.", metavar="LAYER")] = None,
    deadline: Annotated[int, typer.Option("--deadline", help="Seconds that each wait may take.")] = 600,
    dry_run: DryRun = False,
) -> None:
    """Build the platform, or with --dry-run say what would be built: machines, then layer by layer."""
    target = _target(file, until=until, dry_run=dry_run)
    show.table(target.touch(), "target")
    show.table(target.install(timeout=deadline), "would change" if dry_run else "done")


def status(file: Files = None) -> None:
    """The cluster's nodes, and each layer's objects: how many there are, how many are ready."""
    target = _target(file)
    show.table(target.touch(), "target")
    show.table(target.members.table()[["node", "role", "ready", "version", "address"]], "nodes")
    objects = target.status()
    counts = objects.groupby("layer", sort=False)["ready"].agg(objects="size", ready="sum").reset_index()
    show.table(counts, "layers")
    unready = objects[~objects["ready"].astype(bool)]
    if unready.empty:
        show.out.print(f"all {len(objects)} objects are ready")
    else:
        show.table(unready, "not ready")


def diff(file: Files = None, layer: Layer = None) -> None:
    """Where the cluster differs from the parameters, field by field. Changes nothing; exit status 3 if it differs."""
    target = _target(file, dry_run=True)
    target.touch()
    changes = target.layer(layer).diff() if layer else target.diff()
    if changes.empty:
        show.out.print("no differences")
        return
    show.table(changes, "differences")
    raise typer.Exit(show.CHECK_FAILED)


def claim(file: Files = None) -> None:
    """Mark the cluster as this platform's. An installation does it; on a cluster that others installed, do it once."""
    show.table(_target(file).members.claim(), "claimed")


def uninstall(
    layer: Annotated[str, typer.Option("--layer", help="The layer to remove; those that need it must be gone first.")],
    file: Files = None,
    confirm: Annotated[str, typer.Option("--confirm", help="The platform's name, to say that this one is meant.")] = "",
    delete_data: Annotated[
        list[str] | None,
        typer.Option(
            "--delete-data",
            help="Data that goes with it; may be repeated: a namespace, NAMESPACE/CLAIM, or a definition.",
            metavar="NAME",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Remove one layer. Data is kept unless it is named; the table of it is shown first."""
    target = _target(file, dry_run=dry_run)
    name = target.settings.name
    if not dry_run and confirm != name:
        raise RunbookError(f"--confirm {confirm!r} is not this platform", fix=f"--confirm {name}")
    show.table(target.touch(), "target")
    named = tuple(delete_data or ())
    if target.reached is None:
        raise KubeError("the cluster does not answer, so nothing is known of its layers")
    installed = target.layer(layer)
    installed.require_installed()
    show.table(target.removal.data(named), "data")
    installed.uninstall(delete_data=named)
