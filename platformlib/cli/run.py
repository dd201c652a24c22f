"""`platformlib run`: a notebook, with strict parameters and a journal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from platformlib.cli import show
from platformlib.runbook.resume import LATEST


def run(  # noqa: PLR0917  typer reads them as options
    notebook: Annotated[
        str, typer.Argument(help="A path, or a name: install, preflight, cluster, metrics, logs, teardown.")
    ],
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", "-f", help="Parameters file; may be repeated, a later one has the last word.", metavar="FILE"
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", help="One parameter; K may be nested: platform.cluster.version.", metavar="K=V"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The executed notebook; default runs/<UTC>-<name>.ipynb.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the step where the latest run with the same parameters failed.")
    ] = False,
    resume_from: Annotated[
        str | None, typer.Option("--resume-from", help="Go on from the step where this run failed.", metavar="RUN")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
) -> None:
    """Run a notebook. Nothing starts unless every parameter is right; the executed notebook is always written."""
    from platformlib.runbook import run as run_notebook
    from platformlib.runbook.given import assignments
    from platformlib.runbook.progress import progress

    values = assignments(parameter or [])
    again = resume_from or (LATEST if resume else None)
    with progress(sys.stdout) as listener:
        done = run_notebook(
            notebook,
            files=file or [],
            parameters=values,
            output=output,
            resume=again,
            dry_run=dry_run,
            on_event=listener,
        )
    skipped = f", {done.skipped} cells done before by run {done.resumed}" if done.resumed else ""
    show.out.print(f"done in {done.seconds:.0f} s{skipped}: {done.output}", soft_wrap=True)
