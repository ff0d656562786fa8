"""The table of floors in docs/design.md, held against the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastws_compat"
DESIGN = PACKAGE.parent / "docs" / "design.md"


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".") or "fastws_compat"] = path
    return found


def floors() -> dict[str, int | None]:
    """The floor of each module; None for the Django side."""
    rows = re.findall(r"^\| (\d+|Django side) \| (.+) \|$", DESIGN.read_text(), re.MULTILINE)
    return {
        name: int(floor) if floor.isdigit() else None for floor, names in rows for name in names.split(", ")
    }


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that `path` imports when it is imported."""
    known = modules()
    todo: list[ast.stmt] = list(ast.parse(path.read_text()).body)
    for node in todo:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.If | ast.Try):
            todo += [*node.body, *node.orelse]
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastws_compat"):
            base = (node.module or "").removeprefix("fastws_compat").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                yield full if full in known else base


def test_every_module_has_a_floor() -> None:
    assert sorted(floors()) == sorted(modules())


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_down(name: str) -> None:
    table = floors()
    own = table[name]
    for imported in imports(modules()[name]):
        below = table[imported]
        assert own is None or (below is not None and below < own), f"{name} imports {imported}"


@pytest.mark.parametrize("name", sorted(modules()))
def test_loggers_are_made_in_one_place(name: str) -> None:
    """A logger that is made at import is switched off by Django's default for `LOGGING`."""
    text = modules()[name].read_text().replace('getLogger("daphne.server")', "")
    assert name == "logger" or "getLogger" not in text
