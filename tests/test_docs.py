"""The documentation, held against the code: its examples, its names, its links."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from fastws_compat import conf

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^ *```python(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
# Pages of the reference that are not about one module.
SUBJECTS = {"settings", "checks", "close-codes"}


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(info: str | None = None) -> list[Any]:
    """Every Python block of the documentation, or those that say `info` after the language."""
    return [
        pytest.param(dedent(body), id=f"{label(page)}:{number}")
        for page in PAGES
        for number, (said, body) in enumerate(BLOCK.findall(page.read_text()), 1)
        if info is None or said.strip() == info
    ]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def module_pages() -> list[Path]:
    return [page for page in sorted((DOCS / "reference").glob("*.md")) if page.stem not in SUBJECTS]


@pytest.mark.parametrize("source", blocks())
def test_block_compiles_and_imports_what_exists(source: str) -> None:
    tree = compile(source, "docs", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastws_compat":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.django_db
@pytest.mark.parametrize("source", blocks("run"))
def test_block_runs(source: str) -> None:
    module = ModuleType("documented")
    exec(compile(source, "docs", "exec"), vars(module))


@pytest.mark.parametrize("page", module_pages(), ids=label)
def test_module_page_names_what_exists(page: Path) -> None:
    module = importlib.import_module(f"fastws_compat.{page.stem}")
    text = page.read_text()
    assert text.startswith(f"# `fastws_compat.{page.stem}`\n")
    names = re.findall(r"^- `([\w.]+)", text, re.MULTILINE)
    assert names, "the page lists nothing"
    for name in names:
        found: Any = module
        for part in name.split("."):
            assert hasattr(found, part), f"{module.__name__} has no {name}"
            found = getattr(found, part)


@pytest.mark.parametrize("page", module_pages(), ids=label)
def test_module_page_has_an_example_that_is_run(page: Path) -> None:
    assert "```python run\n" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{target} does not exist"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}: no such heading"


def test_every_page_can_be_reached_from_the_index() -> None:
    todo, seen = [DOCS / "index.md"], set[Path]()
    for page in todo:
        if page not in seen and page.suffix == ".md" and page.exists():
            seen.add(page)
            todo += [(page.parent / target.split("#")[0]).resolve() for target in LINK.findall(prose(page))]
    assert [label(page) for page in PAGES if page not in seen and page.parent != ROOT] == []


def test_every_setting_is_documented() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)) == set(conf.DEFAULTS)
