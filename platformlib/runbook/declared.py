"""The parameters that a notebook declares, read from its `parameters` cell without running it."""

import ast
import io
import tokenize
from dataclasses import dataclass
from typing import Any

from platformlib.errors import ParameterError
from platformlib.parameters import Type, read
from platformlib.runbook.notebook import tags

FIX = "one cell tagged `parameters`, each line as `name: type = default  # what it means`"
ANY = ast.Name("Any")


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, its type, its default and its comment."""

    name: str
    type: Type
    default: Any
    comment: str

    @property
    def annotation(self) -> str:
        """The type as it is written."""
        return self.type.annotation

    def accepts(self, value: Any) -> bool:
        """Whether a value has the declared type."""
        return self.type.accepts(value)


def declared(notebook: Any, *, name: str = "notebook") -> dict[str, Parameter]:
    """The parameters of a notebook, in their order.

    Raises:
        ParameterError: no `parameters` cell, more than one, or a line that is not an assignment of a literal.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        count = "no cell" if not cells else f"{len(cells)} cells"
        raise ParameterError(f"{name}: {count} tagged `parameters`", fix=FIX)
    try:
        comments = _comments(cells[0].source)
        parsed = [_parameter(line, comments) for line in ast.parse(cells[0].source).body]
    except (SyntaxError, ValueError, KeyError, TypeError, tokenize.TokenError) as error:
        raise ParameterError(f"{name}: the `parameters` cell cannot be read: {error}", fix=FIX) from None
    return {parameter.name: parameter for parameter in parsed}


def _parameter(line: ast.stmt, comments: dict[int, str]) -> Parameter:
    match line:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            kind = read(annotation)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            kind = read(ANY)
        case _:
            raise ValueError(f"line {line.lineno} is not `name: type = literal`")
    return Parameter(name, kind, ast.literal_eval(value), comments.get(line.end_lineno or 0, ""))


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
