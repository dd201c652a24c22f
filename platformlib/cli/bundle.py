"""`platformlib bundle`: binaries and images, built from pins."""

from typing import Annotated

import typer

from platformlib.cli import show

app = typer.Typer(no_args_is_help=True, help="Binaries and container images, built from the pins of versions.yaml.")
Until = Annotated[
    str | None,
    typer.Option(
        help="Only what the layers up to this one need, in the order of `platformlib check`.", metavar="LAYER"
    ),
]


@app.command()
def build(
    until: Until = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="An optional program as well, such as kubernetes-previous.", metavar="NAME"),
    ] = None,
) -> None:
    """Build what is not in the cache yet, in the order in which the layers need it. May be interrupted and repeated."""
    from platformlib.bundle import Bundle

    Bundle().build(until, on_event=show.stages(), extra=with_ or [])


@app.command("list")
def list_(until: Until = None) -> None:
    """Every artifact: its layer, whether it is built, its size."""
    from platformlib.bundle import Bundle

    artifacts = Bundle().table(until)
    show.table(artifacts.assign(size=[f"{size / 1e6:.1f} MB" for size in artifacts["size"]]))


@app.command()
def verify(until: Until = None) -> None:
    """Compare every file with the checksum that it was built with."""
    from platformlib.bundle import Bundle

    show.table(Bundle().verify(until))
