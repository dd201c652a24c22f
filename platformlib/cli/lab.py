"""`platformlib lab`: the machines of a parameters file, on this host."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformlib.cli import show

if TYPE_CHECKING:
    from platformlib.lab import Lab

app = typer.Typer(no_args_is_help=True, help="Three systemd machines on this host, reached as hardware is: over SSH.")
LAB_FILE = Path("parameters/lab.yaml")
File = Annotated[Path, typer.Option("--file", "-f", help="Parameters file.", metavar="FILE")]


def _lab(file: Path) -> "Lab":
    from platformlib.lab import Lab
    from platformlib.settings import load

    return Lab(load(file))


@app.command()
def check(file: File = LAB_FILE) -> None:
    """Say whether this host can carry the lab, and what a lab replaces in the parameters. Makes nothing."""
    lab = _lab(file)
    for line in lab.check():
        show.out.print(line, soft_wrap=True)
    show.out.print(f"this host can carry the lab {lab.name}", soft_wrap=True)


@app.command()
def up(file: File = LAB_FILE) -> None:
    """Start the machines and wait until each takes a login. May be repeated."""
    show.table(_lab(file).up(show.stages()), "lab")


@app.command()
def status(file: File = LAB_FILE) -> None:
    """What runs, and what it uses."""
    show.table(_lab(file).status())


@app.command()
def ssh(node: Annotated[str, typer.Argument(help="A machine's name.", metavar="NODE")], file: File = LAB_FILE) -> None:
    """Log in to a machine."""
    argv = _lab(file).ssh(node)
    os.execvp(argv[0], argv)  # noqa: S606


@app.command()
def down(
    file: File = LAB_FILE,
    name: Annotated[
        str | None, typer.Option(help="The lab's name, where its parameters file is gone or has another name.")
    ] = None,
) -> None:
    """Stop the machines and remove all that the lab made on this host, whatever the file says by now."""
    from platformlib.lab import parameters, remove
    from platformlib.settings import load

    if remove(name or parameters.name_of(load(file)), show.stages()):
        show.out.print("the lab is gone")
