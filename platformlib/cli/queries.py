"""`platformlib queries`: the named questions, what each asks, and its answer."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from platformlib.cli import platform, show
from platformlib.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

ROWS = 50  # of an answer


def queries(  # noqa: PLR0917  typer reads them as options
    name: Annotated[
        str | None, typer.Argument(help="One query: ask it, and show the answer. Without: list all.", metavar="[NAME]")
    ] = None,
    file: platform.Files = None,
    window: Annotated[str, typer.Option("--window", "-w", help="How far back: 90s, 15m, 1h30m, 7d.")] = "1h",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="One of its parameters.", metavar="K=V")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the picture to this .svg or .png.", metavar="PATH")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Show what would be asked; ask nobody.")] = False,
) -> None:
    """List the named queries, or ask one: `platformlib queries memory_by_pod -p namespace=shop -w 30m`."""
    from platformlib.runbook.given import assignments

    if name is None:
        _list()
        return
    _known(name)
    values = {key: value.as_yaml() for key, value in assignments(parameter or []).items()}
    if text:
        _explain(name, window, values)
        return
    frame = getattr(platform._target(file).queries, name)(window=window, **values)
    _show(frame)
    if save:
        from platformlib.plots import Picture, plot

        picture = plot(frame)
        if not isinstance(picture, Picture):
            raise QueryError(f"{name} is a table, not a picture", fix="leave out --save")
        show.out.print(str(picture.save(save)), soft_wrap=True)


def _known(name: str) -> None:
    from platformlib.query.catalog import named_queries

    if name not in named_queries():
        near = get_close_matches(name, named_queries(), n=3)
        fix = f"did you mean {' or '.join(near)}?" if near else "platformlib queries lists them"
        raise QueryError(f"no query is named {name!r}", fix=fix)


def _list() -> None:
    """Name and title; the parameters in the line below, where there are any."""
    from platformlib.query.catalog import named_queries

    every = named_queries()
    width = max(map(len, every))
    for source, heading in {"prometheus": "Metrics", "loki": "Logs", "events": "Events"}.items():
        show.out.print(Text(f"\n{heading}", style="bold"))
        for name, query in every.items():
            if query.source == source:
                title = query.title + (f" ({', '.join(query.parameters)})" if query.parameters else "")
                show.out.print(Text(f"{name.ljust(width)}  {title}"), soft_wrap=True)
    show.out.print("\nAsk one: platformlib queries NAME -w 30m -p namespace=shop   what it asks: --text")


def _explain(name: str, window: str, values: dict[str, Any]) -> None:
    from platformlib.query import Catalog
    from platformlib.query.catalog import named_queries

    query = named_queries()[name]
    rows = {"title": query.title, "asks": query.source, "unit": query.unit or "none", "means": query.description}
    rows |= {f"-p {key}=": f"{one.type}, default {one.value!r}" for key, one in query.parameters.items()}
    rows |= {"query": getattr(Catalog(), name).text(window, **values)}
    for key, told in rows.items():
        show.out.print(Text(f"{key:<8} {told}"), soft_wrap=True)


def _show(frame: "pd.DataFrame") -> None:
    from platformlib.plots.draw import nothing, sentence, subtitle
    from platformlib.plots.logview import as_text, is_log
    from platformlib.plots.tables import plain

    title = str(frame.attrs.get("title") or "")
    if nothing(frame):
        show.out.print(Text(f"{title}: {sentence(frame)}"), soft_wrap=True)
        return
    show.out.print(Text(f"{title}   {subtitle(frame)}"), soft_wrap=True)
    said = as_text(frame) if is_log(frame) else plain(_table(frame))
    show.out.print(Text(said), soft_wrap=True)


def _table(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Series as their last, mean, least and largest value; what is a table already, as it is."""
    from platformlib.plots import summary

    if frame.attrs.get("picture") in {"lanes", "table", "bar"}:
        return frame.tail(ROWS)
    made = summary(frame, ROWS)
    made.attrs["units"] = dict.fromkeys(("last", "mean", "min", "max"), str(frame.attrs.get("unit") or ""))
    return made
