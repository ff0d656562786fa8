"""Ports upstream test files: only their imports change, as in a user's project.

    python -m tests.upstream.port SOURCE TARGET

Their package `tests` becomes `upstream_tests`, because this repository has a `tests` of its own. What the
library does not have (HTTP) becomes a `Missing`, so that the tests of sockets in the same file still run.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

PACKAGES = ("fastapi", "starlette")
STATEMENTS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
    ast.Expr,
    ast.Import,
    ast.ImportFrom,
)


def ported(text: str) -> str:
    """The text of a test file with replaced imports, in which no statement outside the tests raises."""
    tree = ast.parse(text)
    tree = ast.fix_missing_locations(Imports().visit(tree))
    body = [_guarded(node) if _may_raise(node) else node for node in tree.body]
    future = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    rest = [node for node in body if node not in future]
    own = ast.parse("from tests.upstream.missing import Missing").body
    return ast.unparse(ast.Module([*future, *own, *rest], []))


class Imports(ast.NodeTransformer):
    """Replaces imports from FastAPI and Starlette by imports from the library."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt] | ast.ImportFrom:
        module = node.module or ""
        if module.split(".")[0] == "tests":
            return ast.ImportFrom(f"upstream_{module}", node.names, 0)
        if node.level or not _is_upstream(module):
            return node
        target = _target(module)
        return [
            ast.ImportFrom(target, [alias], 0)
            if _exists(target, alias.name)
            else _missing(alias.asname or alias.name, alias.name)
            for alias in node.names
        ]

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [statement for alias in node.names for statement in self._import(alias)]

    def _import(self, alias: ast.alias) -> Iterator[ast.stmt]:
        if not _is_upstream(alias.name):
            yield ast.Import([alias])
            return
        name = alias.name.split(".")[0]
        if not _exists(_target(alias.name)):
            yield _missing(alias.asname or name, alias.name)
        elif alias.asname:
            yield ast.Import([ast.alias(_target(alias.name), alias.asname)])
        else:
            yield ast.Import([ast.alias(_target(alias.name))])
            yield from ast.parse(f"{name} = fastws_compat").body


def _is_upstream(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def _target(module: str) -> str:
    return re.sub(r"^(fastapi|starlette)\b", "fastws_compat", module)


def _exists(module: str, name: str | None = None) -> bool:
    try:
        found = import_module(module)
        return name is None or hasattr(found, name) or bool(import_module(f"{module}.{name}"))
    except ImportError:
        return False


def _missing(name: str, what: str) -> ast.stmt:
    return ast.parse(f"{name} = Missing({what!r})").body[0]


def _may_raise(node: ast.stmt) -> bool:
    is_test = getattr(node, "name", "").startswith("test")
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return isinstance(node, STATEMENTS) and not (is_test or is_docstring or is_future)


def _guarded(node: ast.stmt) -> ast.stmt:
    """The statement in a `try` that binds its names to a `Missing` if it raises: it declares HTTP."""
    handler = "".join(f"    {name} = Missing({name!r})\n" for name in _names(node)) or "    pass\n"
    [block] = ast.parse(f"try:\n    pass\nexcept Exception:\n{handler}").body
    assert isinstance(block, ast.Try)
    block.body = [node]
    return ast.fix_missing_locations(block)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    return [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else []


def main(source: Path, target: Path) -> None:
    for path in source.rglob("*.py"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(ported(path.read_text()))


if __name__ == "__main__":
    import django

    django.setup()
    main(*map(Path, sys.argv[1:]))
