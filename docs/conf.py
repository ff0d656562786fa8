"""The documentation site: `sphinx-build -W -c docs . build/site`, from the root of the repository.

The source directory is the root, so a page has the same path on the site as in the repository and its links
work in both. The API reference below each page of a module is made from the names that the page lists.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from functools import cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wsproject.settings")

import django  # noqa: E402
from sphinx.pycode import ModuleAnalyzer  # noqa: E402

import fastws_compat  # noqa: E402
from fastws_compat.porting.http_only import HTTPOnly  # noqa: E402

django.setup()
# autodoc would import them while it pretends that `typing.TYPE_CHECKING` is true.
MODULES = {
    page.stem: import_module(f"fastws_compat.{page.stem}")
    for page in sorted((ROOT / "docs" / "reference").glob("*.md"))
    if page.read_text().startswith("# `fastws_compat.")
}

project = "fastws_compat"
author = "the authors of fastws_compat"
copyright = author
release = version = fastws_compat.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/**", "benchmarks/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".*", "build", "dist", "node_modules", "tests", "fastws_compat", "wsproject"]

myst_heading_anchors = 4  # the anchors that GitHub makes, so a link with one works in both places
myst_heading_anchors_html_ids = True
default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"undoc-members": True}
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
toc_object_entries = False

html_theme = "furo"
html_title = f"fastws_compat {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_additional_pages = {"index": "home.html"}  # the address without a path leads to docs/index.html
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched, which browsers do not allow from file://
html_favicon = "../wsproject/static/wsproject/icon.svg"
pygments_style = "friendly"
pygments_dark_style = "monokai"

# The sections of the navigation. A page of docs/howto or docs/reference that is not named here goes to the
# end of its section by itself.
SECTIONS: dict[str, list[str]] = {
    "Start": ["start", "tutorial"],
    "Port from FastAPI": ["porting"],
    "Come from Channels": ["channels", "howto/existing-consumers"],
    "How-to guides": ["howto/*"],
    "Reference": ["reference/settings", "reference/checks", "reference/close-codes", "reference/*"],
    "Operate": [
        "deployment",
        "scaling",
        "security",
        *(f"howto/{name}" for name in ("operations", "metrics", "health", "logging")),
    ],
    "About": [
        "about/compatibility",
        "design",
        "/benchmarks/README",
        "/CHANGELOG",
        "/CONTRIBUTING",
        "/SECURITY",
    ],
}


def document(entry: str) -> str:
    return entry[1:] if entry.startswith("/") else f"docs/{entry}"


def pages(entry: str) -> list[str]:
    """The documents that an entry of `SECTIONS` stands for."""
    return sorted(str(page.relative_to(ROOT).with_suffix("")) for page in ROOT.glob(f"{document(entry)}.md"))


def navigation() -> str:
    """The table of contents of every section, in which each page stands once."""
    named = {document(entry) for entries in SECTIONS.values() for entry in entries if "*" not in entry}
    parts = []
    for caption, entries in SECTIONS.items():
        found = [name for entry in entries for name in pages(entry) if "*" not in entry or name not in named]
        parts.append(
            f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(f"/{name}" for name in found)
        )
    return "\n```\n\n".join(parts) + "\n```\n"


def listed(module: ModuleType, text: str) -> list[str]:
    """The names that the items of a page begin with, and others in them that the module itself defines."""
    names: dict[str, None] = {}
    for item in re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE):
        head = item.partition(":")[0]
        for name in re.findall(r"`(\w+)[\w.]*`", item):
            home = str(getattr(getattr(module, name, None), "__module__", ""))
            if hasattr(module, name) and (f"`{name}" in head or f"{home}.".startswith(f"{module.__name__}.")):
                names[name] = None
    return list(names)


def api(page: str, text: str) -> str:
    """The docstrings of the names that a module's page lists."""
    module = MODULES[page.removeprefix("docs/reference/")]
    names = constants(module) or listed(module, text)
    return "\n## API\n\n```{eval-rst}\n" + "\n".join(entry(module, name, text) for name in names) + "```\n"


def constants(module: ModuleType) -> list[str]:
    """The names of a module of numbers, which are too many for its page to list."""
    names = [name for name in vars(module) if name.isupper()]
    return names if module.__name__.endswith(".status") else []


def entry(module: ModuleType, name: str, text: str) -> str:
    """The directive for one name, with the members of a class."""
    value, full = getattr(module, name), f"{module.__name__}.{name}"
    if isinstance(value, type):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return f".. {kind}:: {full}\n   :members: {', '.join(members(value))}\n"
    if callable(value) and hasattr(value, "__code__"):
        return f".. autofunction:: {full}\n"
    if ("", name) in ModuleAnalyzer.for_module(module.__name__).find_attr_docs():
        no_value = "   :no-value:\n" if repr(value).startswith("<") else ""  # `<Signal object>` says nothing
        return f".. autodata:: {full}\n{no_value}"
    shown = f"   :value: {value}\n" if isinstance(value, int) else ""
    return f".. py:data:: {full}\n{shown}\n   {sentence(name, value, text)}\n"


def sentence(name: str, value: Any, text: str) -> str:
    """The description of data without one in its module: its item on the page, or the phrase of a status."""
    if name.startswith("HTTP_"):
        known = value in iter(HTTPStatus)
        return f"{HTTPStatus(value).phrase if known else name[9:].replace('_', ' ').capitalize()}."
    [item] = re.findall(rf"^- `{name}`: (.+(?:\n  .+)*)", text, re.MULTILINE)
    return str(item[0].upper() + " ".join(item[1:].split()))


def members(cls: type) -> list[str]:
    """The public members of a class, except those of a base that has its own place in the reference."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("fastws_compat") and (base is cls or base not in documented_classes()):
            found = {**inspect.get_annotations(base), **vars(base), **set_in_init(base), **found}
    return [name for name, value in found.items() if name[0] != "_" and not is_foreign(name, value)]


def set_in_init(cls: type) -> dict[str, Any]:
    """The attributes that a class documents where it sets them, with `#:`."""
    comments = ModuleAnalyzer.for_module(cls.__module__).find_attr_docs()
    return {name: None for owner, name in comments if owner == cls.__qualname__}


def is_foreign(name: str, value: Any) -> bool:
    """Whether a member is FastAPI's for HTTP, which raises an error, or pydantic's."""
    return name == "model_config" or isinstance(value, HTTPOnly)


@cache
def documented_classes() -> set[type]:
    """The classes that the pages of the reference list."""
    found = set()
    for page, module in MODULES.items():
        names = listed(module, (ROOT / "docs" / "reference" / f"{page}.md").read_text())
        found |= {value for name in names if isinstance(value := getattr(module, name), type)}
    return found


def add_generated_parts(app: Any, docname: str, source: list[str]) -> None:
    text = source[0]
    if docname == root_doc:
        source[0] = text + "\n" + navigation()
    elif docname.startswith("docs/reference/") and text.startswith("# `fastws_compat."):
        source[0] = text + api(docname, text)


def escape_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring is plain text with code in backticks, not reStructuredText."""
    text = "\n".join(lines)
    parts = re.split(r"(`[^`\n]+`)", text)
    lines[:] = "".join(
        part if index % 2 else re.sub(r"([*|\\]|_(?=\W|$)|`)", r"\\\1", part)
        for index, part in enumerate(parts)
    ).split("\n")


def setup(app: Any) -> None:
    app.connect("source-read", add_generated_parts)
    app.connect("autodoc-process-docstring", escape_docstring)
