"""The documentation matches the code: its examples, its names and its links."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import TestCase
from django.utils.module_loading import import_string

from fastws_compat import conf
from fastws_compat.checks.settings import check_setting
from fastws_compat.groups import Group, record
from fastws_compat.messages import TypedWebSocket  # noqa: F401 - kept in sys.modules by this import
from fastws_compat.testclient import TestClient
from tests import documented

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
    """The page without its code blocks."""
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


def is_settings(source: str) -> bool:
    """Whether a block only assigns names in capitals, as a settings module does."""
    body = compile(source, "docs", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return all(isinstance(node, ast.Assign) for node in body) and all(
        isinstance(target, ast.Name) and target.id.isupper() for target in targets
    )


def execute(source: str, values: dict[str, Any]) -> dict[str, Any]:
    """Run a block, even one that uses `await`, and return the names that it defines."""
    code = compile(dedent(source), "docs", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:

        async def run() -> None:
            await eval(code, values)

        async_to_sync(run)()
    else:
        exec(code, values)
    return values


@pytest.mark.django_db
@pytest.mark.parametrize("source", blocks("run"))
def test_block_runs(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("documented")
    with documented.project():
        monkeypatch.setitem(sys.modules, module.__name__, module)  # where pydantic looks for it
        execute(source, vars(module))


@pytest.mark.django_db
@pytest.mark.parametrize("source", blocks("given"))
def test_fragment_runs_in_the_project_around_it(source: str, admin_user: User) -> None:
    with documented.project():
        values = execute(source, {**documented.names(), "user": admin_user})
        for definition, use in USES.items():
            if definition in source:
                async_to_sync(use)(values[definition.split()[1].rstrip("(:")])


async def use_first_alarm(first_alarm: Any) -> None:
    waiting = asyncio.ensure_future(first_alarm())
    async with asyncio.timeout(20):
        while not waiting.done():
            await Group("alarms").asend({"smoke": True})
            await asyncio.sleep(0)
    assert await waiting == {"smoke": True}


async def use_fastws_message(fastws_message: Any) -> None:
    sent: list[Any] = []
    consumer = documented.consumer_of(sent)
    await fastws_message(consumer, {"fastws": {"group": "chat.1", "json": '{"text":"hi"}'}})
    await fastws_message(consumer, {"fastws": {"group": "chat.1", "close": [4000, ""]}})
    assert sent == [{"text": "hi"}, 4000]


async def use_tenant_middleware(middleware: Any) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope["tenant"])

    await middleware(app)({}, None, None)
    assert scopes == ["acme"]


# Names that some fragments only define.
USES = {
    "def first_alarm(": use_first_alarm,
    "def fastws_message(": use_fastws_message,
    "class TenantMiddleware:": use_tenant_middleware,
}


@pytest.mark.django_db
@pytest.mark.parametrize("source", blocks("pytest"))
def test_documented_tests_pass(source: str, request: pytest.FixtureRequest) -> None:
    """Run each test of the block with its fixtures, including those of our plugin and of the reader."""
    with documented.project(), record() as sent:
        own = {
            "ws_client": TestClient(documented.MODULES["mysite.asgi"]["application"], timeout=10),
            "group_messages": sent,
            "client": documented.Page(),
            "room": None,
        }
        values = execute(source, documented.names())
        tests = [value for name, value in values.items() if name.startswith("test_")]
        for test in tests:
            fixtures = inspect.signature(test).parameters
            test(**{name: own[name] if name in own else request.getfixturevalue(name) for name in fixtures})
        cases = [value for value in values.values() if isinstance(value, type) and value is not TestCase]
        for case in cases:
            if issubclass(case, TestCase):
                result = unittest.TestResult()
                unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
                assert (result.testsRun > 0, result.errors, result.failures) == (True, [], [])
                tests.append(case)
        assert tests


@pytest.mark.parametrize("source", [block for block in blocks() if is_settings(block.values[0])])
def test_documented_settings_are_right(source: str) -> None:
    values = execute(source, {})
    for name, value in values.get("FASTWS", {}).items():
        assert check_setting(name, value) == []
    for layer in values.get("CHANNEL_LAYERS", {}).values():
        assert import_string(layer["BACKEND"])


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_block_is_run(page: Path) -> None:
    """Every block is run by this module or by a test that is named here."""
    elsewhere = {"rest_framework": "tests/rest_framework_site/run.py", "pipe": "tests/test_pipe.py"}
    followed = {f"{name}.md": ROOT / "tests" / f"test_{name}.py" for name in ("tutorial", "start")}
    for said, body in BLOCK.findall(page.read_text()):
        source, way = dedent(body), said.strip()
        if way in ("run", "given", "pytest") or is_settings(source):
            continue
        if page.name in followed:
            starts = re.findall(r'block\("(.+?)"\)', followed[page.name].read_text())
            assert any(body.startswith(start) for start in starts), source
        else:
            assert way in elsewhere, f"nothing runs this block:\n{source}"
            assert page.name in (ROOT / elsewhere[way]).read_text()


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


UNIT = re.compile(r"^```ini\n# /etc/systemd/system/([\w@.]+).*\n((?:.*\n)*?)```$", re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("page", [DOCS / "deployment.md", DOCS / "howto/draining.md"], ids=label)
def test_units_of_systemd(page: Path, tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about them, once the programs are those of this environment."""
    units = UNIT.findall(page.read_text())
    assert units
    for name, text in units:
        ours = text.replace("/srv/mysite/.venv/bin", str(Path(sys.executable).parent))
        for line in re.findall(r"^ExecStop=.*$", page.read_text(), re.M):
            stop = line.replace("/srv/mysite/.venv/bin", str(Path(sys.executable).parent))
            ours = ours.replace("Restart=always\n", f"Restart=always\n{stop}\n")
        (tmp_path / name.replace("@", "@8001")).write_text(ours)
    ran = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
