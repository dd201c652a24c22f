"""`platformlib run`: a notebook, with strict parameters and a journal; `platformlib export`: a page from a run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from platformlib.cli import show

LATEST = "latest"  # as runbook.resume has it; importing that would make --help slow


def run(  # noqa: PLR0917  typer reads them as options
    notebook: Annotated[
        str, typer.Argument(help="A path, or a name: install, preflight, cluster, metrics, logs, teardown, …")
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
    from platformlib.runbook.execute import RUNS
    from platformlib.runbook.execute import run as run_notebook
    from platformlib.runbook.given import assignments
    from platformlib.runbook.notebook import find
    from platformlib.runbook.progress import progress, usual

    values = assignments(parameter or [])
    again = resume_from or (LATEST if resume else None)
    with progress(sys.stdout, usual(RUNS, find(notebook).stem)) as listener:
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


def export(
    notebook: Annotated[Path, typer.Argument(help="An executed notebook, such as runs/…-metrics.ipynb.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: beside the notebook, .html.")] = None,
    code: Annotated[bool, typer.Option("--code", help="With the code of each cell.")] = False,
) -> None:
    """Make one HTML page of an executed notebook. It asks nothing of any network."""
    from platformlib.runbook.page import export as made

    show.out.print(str(made(notebook, output, code=code)), soft_wrap=True)
