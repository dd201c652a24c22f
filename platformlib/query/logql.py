"""The little of LogQL's form that a client must know: where the selector ends, and what a refusal says."""

import re

from platformlib.errors import BadQuery

STRING = r'"(?:\\.|[^"\\])*"|`[^`]*`'
SELECTOR = re.compile(rf"\s*\{{(?:{STRING}|[^}}\"`])*\}}", re.DOTALL)
LIMIT = re.compile(r"max_entries_limit\w*\s*\((\d+) > (\d+)\)")
FORGIVING = "| drop __error__, __error_details__"


def selector_of(logql: str) -> str:
    """The stream selector that a log query begins with. Raises BadQuery when it begins with something else."""
    found = SELECTOR.match(logql)
    if found is None:
        raise BadQuery(
            f"not a log query: {logql[:80]!r}", fix='begin it with a selector, such as {namespace="storage"}'
        )
    return found[0].strip()


def counting(logql: str, milliseconds: int, *, forgiving: bool = False) -> str:
    """How many lines a log query finds. `forgiving` also counts lines that a parser stage stumbles over."""
    inner = f"{logql} {FORGIVING}" if forgiving else logql
    return f"sum(count_over_time({inner} [{milliseconds}ms]))"


def refused_limit(message: str) -> int | None:
    """The most lines that a server gives at once, when it says so."""
    found = LIMIT.search(message)
    return int(found[2]) if found else None
