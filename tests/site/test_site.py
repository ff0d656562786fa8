"""What a reader needs of the built site: pages, anchors, names and search, without a server or a network."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

import fastws_compat
from fastws_compat import status
from fastws_compat.checks.messages import DOCS as CHECKS
from fastws_compat.porting.http_only import HTTPOnly
from tests.site.conftest import SITE
from tests.test_docs import ROOT, module_pages

HTML = sorted(SITE.rglob("*.html"))
SECTIONS = [
    "Start",
    "Port from FastAPI",
    "Come from Channels",
    "How-to guides",
    "Reference",
    "Operate",
    "About",
]


class Content(HTMLParser):
    """The ids of a page, what it links to, what a browser loads to show it, and what it says about names."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        # The text below the heading of each name, by the name.
        self.described: dict[str, str] = {}
        self._name = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or values.get("name") or "")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        elif tag in ("script", "img", "link", "iframe", "source") and values.get("rel") != "canonical":
            self.loaded.append(values.get("src") or values.get("href") or "")
        elif tag == "dt":
            self._name = values.get("id") or ""
        elif tag == "dd":
            self._open.append(self._name)

    def handle_endtag(self, tag: str) -> None:
        if tag == "dd":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        # The `dt` of a member stands in the `dd` of its class, before the `dd` of its own.
        if self._open and self._name == self._open[-1]:
            self.described[self._name] = self.described.get(self._name, "") + data.strip()


@cache
def content(page: Path) -> Content:
    parser = Content()
    parser.feed(page.read_text())
    return parser


def relative(page: Path) -> str:
    return str(page.relative_to(SITE))


@pytest.mark.parametrize("page", HTML, ids=relative)
def test_every_link_leads_to_a_page_and_an_anchor(page: Path) -> None:
    for link in content(page).links:
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "mailto"):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_file(), f"{link} does not exist"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in content(target).ids, f"{link}: no such anchor"


@pytest.mark.parametrize("page", HTML, ids=relative)
def test_a_page_loads_nothing_from_elsewhere(page: Path) -> None:
    for address in content(page).loaded:
        assert not urlsplit(address).netloc, f"{address} needs a network"
        path = urlsplit(address).path
        assert not path or address.startswith("data:") or (page.parent / unquote(path)).is_file(), address


def test_every_page_of_the_documentation_is_in_the_navigation() -> None:
    home = (SITE / "docs" / "index.html").read_text()
    navigation = re.search(r'<div class="sidebar-tree">(.*?)</aside>', home, re.DOTALL)
    assert navigation is not None
    captions = re.findall(r'class="caption-text">([^<]+)<', navigation[1])
    assert captions == SECTIONS
    named = [
        (SITE / "docs" / href).resolve()
        for href in re.findall(r'class="reference internal" href="([^"#]+)"', navigation[1])
    ]
    assert len(named) == len(set(named)), "a page stands twice in the navigation"
    pages = {(SITE / path.relative_to(ROOT)).with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {SITE / "docs" / "index.html"} <= set(named)


def test_the_hint_of_every_system_check_names_an_anchor_of_the_site() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "fastws_compat" / "checks").glob("*.py"))
    numbers = set(re.findall(r'"([EWI]\d{3})"', sources))
    assert len(numbers) > 20
    ids = content((SITE / CHECKS).with_suffix(".html")).ids
    assert {f"fastws{number.lower()}" for number in numbers} <= ids


# ---- The API reference -----------------------------------------------------------------------------


def from_upstream(module: ModuleType) -> Iterator[str]:
    """The names that FastAPI's or Starlette's module of the same name defines and that exist here."""
    for package in ("fastapi", "starlette"):
        try:
            upstream = importlib.import_module(module.__name__.replace("fastws_compat", package))
        except ImportError:
            continue
        for name, value in vars(upstream).items():
            defined_there = getattr(value, "__module__", None) == upstream.__name__
            is_code = inspect.isclass(value) or inspect.isfunction(value)
            if defined_there and is_code and not name.startswith("_") and name in vars(module):
                yield name


def public_names() -> Iterator[str]:
    """The full name of everything that the reference has to show."""
    for name in fastws_compat.__all__:
        if name != "status":
            yield f"{fastws_compat._HOMES[name]}.{name}"
    for page in module_pages():
        module = importlib.import_module(f"fastws_compat.{page.stem}")
        listed = re.findall(r"^- `(\w+)", page.read_text(), re.MULTILINE)
        exported = re.findall(r"import (\w+) as \1\b", Path(str(module.__file__)).read_text())
        for name in {*listed, *from_upstream(module), *(exported if hasattr(module, "__path__") else ())}:
            yield f"{page.stem}.{name}"


# What modules define for themselves, and a name that its own module's page has.
INTERNAL = {
    "requests.empty_receive",
    "requests.empty_send",
    "messages.Contract",
    "testclient.WebSocketDisconnect",
}


@pytest.mark.parametrize("name", sorted(set(public_names()) - INTERNAL))
def test_a_public_name_is_in_the_reference(name: str) -> None:
    module = name.rpartition(".")[0]
    page = SITE / "docs" / "reference" / f"{module}.html"
    assert content(page).described.get(f"fastws_compat.{name}")


def public_classes() -> dict[type, str]:
    """Every public class and its full name."""
    found = {}
    for name in sorted(set(public_names()) - INTERNAL):
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(f"fastws_compat.{module}"), attribute)
        if isinstance(value, type):
            found[value] = f"fastws_compat.{name}"
    return found


def own_bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith("fastws_compat")]


def public_members(cls: type) -> set[str]:
    """The members of a class and of its bases in the package, without those of FastAPI that only raise."""
    found: dict[str, object] = {}
    for base in own_bases(cls):
        found = {**inspect.get_annotations(base), **vars(base), **set_in_init(base), **found}
    found.pop("model_config", None)  # pydantic's
    return {name for name, value in found.items() if name[0] != "_" and not isinstance(value, HTTPOnly)}


def set_in_init(cls: type) -> dict[str, None]:
    """The attributes that the source of `__init__` assigns."""
    init = vars(cls).get("__init__")
    if not inspect.isfunction(init) or init.__code__.co_filename != inspect.getsourcefile(cls):
        return {}  # generated, as those of dataclasses are
    source = dedent(inspect.getsource(init))
    return dict.fromkeys(re.findall(r"\bself\.(\w+)(?=[^=\n]*(?<![=!<>])=(?!=))", source))


def is_inherited_text(cls: type, member: str) -> bool:
    """Whether the docstring of a method comes from a class of somebody else, such as Mapping."""
    found = [vars(base)[member] for base in own_bases(cls) if member in vars(base)]
    return bool(found) and inspect.isroutine(found[0]) and not any(each.__doc__ for each in found)


def test_every_public_member_is_described_in_the_reference() -> None:
    known: dict[str, str] = {}
    for page in (SITE / "docs" / "reference").glob("*.html"):
        known |= content(page).described
    classes = public_classes()
    assert len(classes) > 100
    missing = [
        f"{classes[cls]}.{member}"
        for cls in classes
        for member in public_members(cls)
        if is_inherited_text(cls, member)
        or not any(known.get(f"{classes[base]}.{member}") for base in own_bases(cls) if base in classes)
    ]
    assert sorted(missing) == []


def test_every_status_is_in_the_reference() -> None:
    known = content(SITE / "docs" / "reference" / "status.html").described
    names = [name for name in vars(status) if name.isupper()]
    assert len(names) > 70
    assert [name for name in names if not known.get(f"fastws_compat.status.{name}")] == []


# ---- In a browser, from the file system ------------------------------------------------------------


@pytest.fixture
def offline(browser: Browser) -> Iterator[Page]:
    """A page that reads files only; anything that it prints to its console fails the test."""
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route(re.compile("^https?:"), lambda route: (problems.append(route.request.url), route.abort()))
    yield page
    page.close()
    assert problems == []


@pytest.mark.browser
def test_the_first_address_leads_to_the_documentation(offline: Page) -> None:
    offline.goto((SITE / "index.html").as_uri())
    offline.wait_for_url("**/docs/index.html")
    assert offline.locator("h1").inner_text().startswith("fastws_compat")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("words", "expected"),
    [("send_on_commit", "docs/reference/groups.html"), ("daphne stock", "docs/reference/daphne.html")],
)
def test_search_works_offline(offline: Page, words: str, expected: str) -> None:
    offline.goto((SITE / "docs" / "index.html").as_uri())
    offline.fill("input[name=q]", words)
    offline.press("input[name=q]", "Enter")
    offline.wait_for_selector("#search-results li a")
    offline.wait_for_function("document.querySelector('#search-results p').innerText.includes('finished')")
    found = offline.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    assert any(expected in href for href in found)


@pytest.mark.browser
def test_light_and_dark(offline: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    offline.emulate_media(color_scheme="dark")
    offline.goto((SITE / "docs" / "start.html").as_uri())
    dark = offline.evaluate(background)
    offline.emulate_media(color_scheme="light")
    assert offline.evaluate(background) != dark


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_needs_scrolling_to_the_side(offline: Page, width: int) -> None:
    offline.set_viewport_size({"width": width, "height": 740})
    wide = []
    for page in HTML:
        if page == SITE / "index.html":
            continue  # it only leads to another page
        offline.goto(page.as_uri())
        widths = offline.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if widths[0] > widths[1]:
            wide.append((relative(page), *widths))
    assert wide == []
