"""The imports match the table of floors in docs/design.md; modules and functions are small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastws_compat"
DESIGN = PACKAGE.parent / "docs" / "design.md"

BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.IfExp,
    ast.comprehension,
    ast.match_case,
)


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".") or "fastws_compat"] = path
    return found


MODULES = modules()


def floors() -> dict[str, int]:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", DESIGN.read_text(), re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in names.split(", ")}


def imports(path: Path) -> Iterator[str]:
    """Every module of the package that `path` imports, also in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastws_compat":
            base = (node.module or "").removeprefix("fastws_compat").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                yield full if full in MODULES else base or "fastws_compat"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "fastws_compat":
                    yield alias.name.removeprefix("fastws_compat").lstrip(".") or "fastws_compat"


def test_every_module_has_a_floor() -> None:
    assert sorted(floors()) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_down(name: str) -> None:
    """Imports point down, so there is no import cycle."""
    table = floors()
    for imported in imports(MODULES[name]):
        assert table[imported] < table[name], f"{name} imports {imported}"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def source_lines(path: Path) -> set[int]:
    """The lines that contain code, without blank lines, comments and docstrings."""
    text = path.read_text()
    lines = {
        n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")
    }
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first, last = function.lineno, function.end_lineno or function.lineno
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        return last - first + 1 - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)
    return last - first + 1


def complexity(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The cyclomatic complexity: one plus the number of branches."""
    count = 1
    for node in ast.walk(function):
        count += isinstance(node, BRANCHES)
        count += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return count


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_are_small(name: str) -> None:
    assert len(source_lines(MODULES[name])) <= 400


def test_functions_are_short_and_simple() -> None:
    found = [function for path in MODULES.values() for function in functions(ast.parse(path.read_text()))]
    assert median(map(length, found)) <= 6
    assert mean(map(complexity, found)) < 2.7


@pytest.mark.parametrize("name", sorted(MODULES))
def test_loggers_are_made_in_one_place(name: str) -> None:
    """Django's default for `LOGGING` disables a logger that exists before `django.setup()`."""
    text = MODULES[name].read_text().replace('getLogger("daphne.server")', "")
    assert name == "logger" or "getLogger" not in text
