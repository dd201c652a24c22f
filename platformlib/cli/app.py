"""The commands in one tree. What a command needs is imported when it runs, so that `--help` is quick."""

import os
import sys
from difflib import get_close_matches
from typing import Annotated, Any

import click
import typer
import typer.core

from platformlib.cli import bundle, lab, platform, queries, run, show
from platformlib.errors import PlatformError


class Suggesting(typer.core.TyperGroup):
    """Commands that name the near one when a command is not known."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = self.list_commands(ctx)
            near = get_close_matches(args[0], known, n=2)
            guess = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
            raise click.UsageError(f"no command {args[0]!r}. {guess}", ctx=error.ctx) from None


app = typer.Typer(
    cls=Suggesting,
    help="Installs, proves and operates a Kubernetes platform from one parameters file.",
    epilog=show.EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lab.app, name="lab")
app.add_typer(bundle.app, name="bundle")
app.command("run", epilog=show.EXIT_CODES)(run.run)
app.command("export")(run.export)
for command in (
    platform.check,
    platform.install,
    platform.status,
    platform.diff,
    platform.claim,
    platform.uninstall,
    queries.queries,
):
    app.command()(command)

TRACEBACK = "PLATFORMLIB_TRACEBACK"


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show an error's traceback.")] = False,
) -> None:
    """Set what holds for every command."""
    if verbose:
        os.environ[TRACEBACK] = "1"


def main() -> None:
    """Run the command line; an error of this package is told in plain words."""
    try:
        app(prog_name="platformlib")
    except PlatformError as problem:
        if os.environ.get(TRACEBACK):
            show.err.print_exception()
        sys.exit(show.error(problem))
    except KeyboardInterrupt:
        show.err.print("interrupted; every command can be run again")
        sys.exit(show.INTERRUPTED)
