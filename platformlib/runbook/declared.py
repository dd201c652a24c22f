"""The parameters that a notebook declares, read from its `parameters` cell without running it."""

import ast
import io
import tokenize
from dataclasses import dataclass
from operator import or_
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from platformlib.errors import ParameterError
from platformlib.runbook.notebook import tags

TYPES: dict[str, Any] = {kind.__name__: kind for kind in (str, int, float, bool, list, dict, object)} | {"Any": Any}
FIX = "one cell tagged `parameters`, each line as `name: type = default  # what it means`"


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, its type as written and as Python has it, its default and its comment."""

    name: str
    annotation: str
    type: Any
    default: Any
    comment: str

    def accepts(self, value: Any) -> bool:
        """True when `value` has the declared type; nothing is converted, but an int may stand for a float."""
        try:
            TypeAdapter(self.type, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            return False
        return True


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
            kind, text = _type(annotation), ast.unparse(annotation)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            kind, text = Any, "Any"
        case _:
            raise ValueError(f"line {line.lineno} is not `name: type = literal`")
    return Parameter(name, text, kind, ast.literal_eval(value), comments.get(line.end_lineno or 0, ""))


def _type(node: ast.expr) -> Any:
    """The type that an annotation means; a small table of builtins, nothing is evaluated."""
    match node:
        case ast.Name(id=name):
            return TYPES[name]
        case ast.Constant(value=None):
            return None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return or_(_type(left), _type(right))
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=inner)):
            return TYPES[name][tuple(map(_type, inner))]
        case ast.Subscript(value=ast.Name(id=name), slice=inner_type):
            return TYPES[name][_type(inner_type)]
        case _:
            raise ValueError(f"line {node.lineno}: type {ast.unparse(node)!r} is not made of {', '.join(TYPES)}")


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
