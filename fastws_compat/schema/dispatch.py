"""Which applications a project's own ASGI function passes a scope to, as its source shows."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from textwrap import dedent
from types import FunctionType
from typing import Any

# The nodes that end a branch.
ENDS = (ast.Return, ast.Raise)


def targets(function: FunctionType, kind: str) -> list[Any]:
    """What `function` calls as an ASGI application with a scope of the type `kind`.

    What else it closes over is included: its source does not show what happens to it.
    """
    closure = dict(zip(function.__code__.co_freevars, map(_content, function.__closure__ or ()), strict=True))
    tree = _parsed(function)
    if tree is None:
        return list(closure.values())
    known = {**function.__globals__, **closure}
    reached = [call.func for statement in _reached(tree.body, kind) for call in _calls(statement)]
    called = {ast.unparse(call.func) for call in _calls(tree)}
    passed_on = [value for name, value in closure.items() if name not in called]
    return [found for node in reached if (found := _value(node, known)) is not None] + passed_on


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return None


def _parsed(function: FunctionType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    try:
        [tree] = ast.parse(dedent(inspect.getsource(function.__code__))).body
    except (OSError, SyntaxError, ValueError):
        return None
    return tree if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) else None


def _reached(statements: Sequence[ast.stmt], kind: str) -> Iterator[ast.AST]:
    """The expressions and simple statements that run for scopes of the type `kind`."""
    for statement in statements:
        if isinstance(statement, ast.If):
            branches = _branches(statement, kind)
            yield from (each for branch in branches for each in _reached(branch, kind))
            if all(branch and isinstance(branch[-1], ENDS) for branch in branches):
                return
        else:
            yield statement


def _branches(statement: ast.If, kind: str) -> list[list[ast.stmt]]:
    """The branch that a comparison with the type of the scope selects, or both."""
    match statement.test:
        case ast.Compare(
            left=ast.Subscript(slice=ast.Constant(value="type")),
            ops=[ast.Eq() | ast.NotEq() as operator],
            comparators=[ast.Constant(value=str(value))],
        ):
            is_body = (value == kind) is isinstance(operator, ast.Eq)
            return [statement.body if is_body else statement.orelse]
    return [statement.body, statement.orelse]


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call) and _is_asgi_call(each))


def _is_asgi_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and len(node.args) + len(node.keywords) == 3


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """The value of a name, or of an attribute of one."""
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, known), node.attr, None)
    return known.get(node.id) if isinstance(node, ast.Name) else None
