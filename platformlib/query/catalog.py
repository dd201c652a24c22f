"""Named queries, as functions: `queries.cpu_by_node(window="1h")`. Each component has its own in `queries.yaml`.

In a query, $rate is the range of a rate (four scrapes at least, never less than a step), $step the step between two
points, $window the whole window. Any other $name is a parameter, quoted by its type:
    text      one text, matched exactly:        namespace=$namespace
    names     one name, several, or all:        namespace=~$namespace
    pattern   a regular expression (RE2):       pod=~$pod
    duration  such as 5m                        [$range]
    integer   a whole number                    topk($top, ...)
`empty` says when an empty answer is no fault. `labels` are the columns of an empty answer.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from inspect import Parameter as Argument
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter

from platformlib import component
from platformlib.errors import QueryError
from platformlib.query.named import Named
from platformlib.query.window import Moment, Span, Window, duration, step_for
from platformlib.query.window import window as window_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from platformlib.query.events import Events
    from platformlib.query.loki import Loki
    from platformlib.query.prometheus import Prometheus

RATE = duration("2m")  # four scrapes at the usual 30 s: a lost one leaves no hole
COMMON = ("window", "start", "end", "step")
LINES_COMMON = ("window", "start", "end", "limit", "direction")


@cache
def named_queries(*folders: Path) -> Mapping[str, Named]:
    """The queries of all components, and of those in `folders`.

    Raises:
        QueryError: two components have a query of one name.
    """
    found: dict[str, Named] = {}
    for each in (*component.packaged().values(), *map(component.read, folders)):
        content = yaml.safe_load(each.text("queries.yaml")) or {}
        own = TypeAdapter(dict[str, Named]).validate_python(content)
        if twice := sorted(own.keys() & found.keys()):
            raise QueryError(f"{each.folder / 'queries.yaml'}: {', '.join(twice)}: another component has this query")
        found |= own
    return found


class Query:
    """One named query of a platform. Call it; `.text()` shows what would be asked."""

    def __init__(self, name: str, named: Named, run: Callable[..., "DataFrame"]) -> None:
        self.name, self.named, self._run = name, named, run
        self.__doc__ = f"{named.description}\n\nUnit: {named.unit or 'none'}. {named.source}: {named.query}"
        self.__signature__ = Signature(
            [
                Argument(name, Argument.KEYWORD_ONLY, default=None)
                for name in (LINES_COMMON if named.kind == "lines" else COMMON)
            ]
            + [Argument(name, Argument.KEYWORD_ONLY, default=one.value) for name, one in named.parameters.items()]
        )

    def __repr__(self) -> str:
        return f"<query {self.name}{self.__signature__}: {self.named.description}>"

    def __call__(self, **arguments: Any) -> "DataFrame":
        """The frame; `.attrs` has title, unit, picture, and when it may be empty."""
        frame = self._run(self.named, **arguments)
        named = self.named
        about = {"name": self.name, "title": named.title, "unit": named.unit, "picture": named.picture}
        frame.attrs |= about | {"empty": frame.attrs.get("empty") or named.empty}
        return frame

    def text(self, window: Span = "1h", step: Span | None = None, **values: Any) -> str:
        """The query's text for a window."""
        length = duration(window)
        width = duration(step) if step is not None else step_for(length)
        return self.named.render(values, step=width, rate=RATE, window=length)


class Catalog:
    """Every named query as an attribute; those whose server was not given raise when they are called.

    Args:
        components: folders of a platform's own components, whose queries are added.
        absent: why there is no server at all; then every query returns an empty frame that says so.
    """

    def __init__(
        self,
        prometheus: "Prometheus | None" = None,
        loki: "Loki | None" = None,
        events: "Events | None" = None,
        components: Iterable[Path] = (),
        *,
        absent: str = "",
    ) -> None:
        self._named, self._absent = named_queries(*components), absent
        self._servers = {"prometheus": prometheus, "loki": loki, "events": events}

    def __getattr__(self, name: str) -> Query:
        if name.startswith("_") or name not in self._named:
            raise AttributeError(f"no query is named {name!r}; Catalog.table() lists them")
        return Query(name, self._named[name], self._run)

    def __dir__(self) -> list[str]:
        return sorted([*self._named, "table"])

    def __repr__(self) -> str:
        return f"<{len(self._named)} named queries; .table() lists them>"

    def table(self) -> "DataFrame":
        """All queries: columns name, title, source, kind, unit, picture, parameters, description."""
        from pandas import DataFrame

        columns = ["title", "source", "kind", "unit", "picture", "description"]
        rows = [
            {"name": name, "parameters": ", ".join(one.parameters)} | {key: getattr(one, key) for key in columns}
            for name, one in self._named.items()
        ]
        return DataFrame(rows, columns=["name", *columns[:-1], "parameters", "description"])

    def _run(
        self,
        named: Named,
        *,
        window: Span | Window | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Span | None = None,
        **values: Any,
    ) -> "DataFrame":
        if self._absent:
            from pandas import DataFrame

            frame = DataFrame()
            frame.attrs["empty"] = self._absent
            return frame
        server: Any = self._servers[named.source]
        if server is None:
            raise QueryError(f"{named.title}: no {named.source} to ask", fix="give one to Catalog(...)")
        options: dict[str, Any] = {
            key: values.pop(key) for key in ("limit", "direction") if named.kind == "lines" and key in values
        }
        span = window_of(window, start=start, end=end, now=server.now())
        width = duration(step) if step is not None else step_for(span.length)
        query = named.render(values, step=width, rate=RATE, window=span.length)
        if named.kind == "events":
            options = values
        return _ask(server, named, query, span, step=width, **options)


def _ask(server: Any, named: Named, query: str, span: Window, *, step: int, **options: Any) -> "DataFrame":
    frame: DataFrame
    match named.kind:
        case "range":
            frame = server.query_range(query, span, step=step / 1e9, labels=named.labels, unit=named.unit)
        case "instant":
            frame = server.query(query, time=span.end / 1e9, labels=named.labels, unit=named.unit)
        case "lines":
            frame = server.lines(query, span, labels=named.labels, **options)
        case "events":
            frame = getattr(server, query)(span, **options)
    return frame
