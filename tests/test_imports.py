"""Every import from FastAPI or Starlette, with the package renamed, works or names the alternative."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.middleware.cors import CORSMiddleware

import fastws_compat
from fastws_compat import FastAPI
from fastws_compat.datastructures import URL
from fastws_compat.exceptions import DeclarationError, HTTPException
from fastws_compat.porting import names as elsewhere

PACKAGES = ("fastapi", "starlette")
# "There is no fastws_compat.x. Use y." and "fastws_compat.x has no 'y'. Use z."
SENTENCE = re.compile(
    r"^(There is no fastws_compat\.[\w.]+|fastws_compat[\w.]* has no '\w+')\. [A-Z].{20,}\.$"
)


def modules() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        found = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        yield from (module.name for module in found if "._" not in module.name)


def source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            caught = [statement for handler in handlers for statement in handler.body]
            yield from statements([*node.body, *node.orelse, *caught])
        else:
            yield node


def written_in(module: str) -> set[str]:
    """The names that the source of a module defines, or imports from one of the two packages.

    The source is used because some modules cannot be imported without itsdangerous or jinja2.
    """
    names = set()
    for node in statements(ast.parse(source_of(module)).body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level or (node.module or "").split(".")[0] in PACKAGES:
                names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
    return names


def found_in(module: str) -> set[str]:
    """The names whose objects belong to one of the two packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules are deprecated
        try:
            namespace = vars(importlib.import_module(module))
        except ImportError:
            return set()
    return {
        name
        for name, value in namespace.items()
        if (getattr(inspect.getmodule(value), "__name__", "") or "").split(".")[0] in PACKAGES
    }


def twin(module: str) -> str:
    return re.sub(r"^\w+", "fastws_compat", module)


NAMES = [
    (module, name)
    for module in modules()
    for name in sorted(written_in(module) | found_in(module))
    if not name.startswith("_")
]


def complaint(statement: str) -> str | None:
    """The error of an import; None if it works."""
    try:
        exec(statement, {})
    except ImportError as exc:
        return str(exc)
    return None


def test_the_walk_sees_both_packages() -> None:
    assert {"fastapi.routing", "starlette.middleware.cors", "starlette.middleware.sessions"} <= set(modules())
    assert ("fastapi.routing", "APIRoute") in NAMES
    assert ("starlette.templating", "Jinja2Templates") in NAMES
    assert len(NAMES) > 900


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_exists_or_its_error_names_the_alternative(module: str) -> None:
    said = complaint(f"import {twin(module)}")
    assert said is None or SENTENCE.match(said), said


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_name_exists_or_its_error_names_the_alternative(module: str, name: str) -> None:
    said = complaint(f"from {twin(module)} import {name}")
    assert said is None or SENTENCE.match(said), said


def test_a_name_that_only_this_table_has_is_wrong() -> None:
    known = {name for _, name in NAMES} | {module.rpartition(".")[2] for module in modules()}
    advised = {key.rpartition(".")[2] for key in elsewhere._ADVICE}
    assert advised <= known
    assert set(elsewhere.MODULES) <= {module.partition(".")[2] for module in modules()}


@pytest.mark.parametrize("place", sorted(set(elsewhere._PLACES.values())))
def test_every_place_of_the_table_is_there(place: str) -> None:
    module, _, name = f"fastws_compat.{place}".rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    "name",
    [
        *("Starlette", "StreamingResponse", "AuthenticationMiddleware", "SessionMiddleware"),
        *("TrustedHostMiddleware", "HTTPSRedirectMiddleware", "BaseHTTPMiddleware", "WebSocketRoute"),
        *("RequestResponseEndpoint", "StarletteHTTPException", "get_name", "is_async_callable"),
    ],
)
def test_what_a_socket_can_use_is_here(name: str) -> None:
    homes = [module for module, known in NAMES if known == name]
    assert homes
    works = [module for module in homes if complaint(f"from {twin(module)} import {name}") is None]
    # Modules only for HTTP are missing as a whole.
    assert all(twin(home) not in sys.modules for home in set(homes) - set(works))
    assert works


@pytest.mark.parametrize(
    ("statement", "advice"),
    [
        ("from fastws_compat.middleware.cors import CORSMiddleware", r'FASTWS\["ALLOWED_ORIGINS"\]'),
        ("from fastws_compat.middleware import cors", r'FASTWS\["ALLOWED_ORIGINS"\]'),
        ("import fastws_compat.middleware.cors as c", r'FASTWS\["ALLOWED_ORIGINS"\]'),
        ("from fastws_compat import CORSMiddleware", r'FASTWS\["ALLOWED_ORIGINS"\]'),
        ("from fastws_compat.staticfiles import StaticFiles", "django.contrib.staticfiles"),
        ("from fastws_compat import staticfiles", "django.contrib.staticfiles"),
        ("from fastws_compat.templating import Jinja2Templates", "render"),
        ("from fastws_compat.responses import FileResponse", "FileResponse"),
        ("from fastws_compat.routing import APIRoute", "urls.py"),
        ("from fastws_compat.routing import Route", "urls.py"),
        ("from fastws_compat.utils import generate_unique_id", "add_api_websocket_route"),
        ("from fastws_compat.requests import ClientDisconnect", "WebSocketDisconnect"),
        ("from fastws_compat.openapi.models import Header", "django-ninja"),
        ("from fastws_compat import JSONResponse", r"fastws_compat\.responses\.JSONResponse"),
        ("from fastws_compat import TestClient", r"fastws_compat\.testclient\.TestClient"),
    ],
)
def test_the_advice(statement: str, advice: str) -> None:
    with pytest.raises(ImportError, match=advice):
        exec(statement, {})


def test_a_name_that_another_module_hands_on_is_the_same() -> None:
    names: dict[str, object] = {}
    exec(
        "from fastws_compat.routing import URL\nfrom fastws_compat.exceptions import StarletteHTTPException",
        names,
    )
    assert names["URL"] is URL
    assert names["StarletteHTTPException"] is HTTPException


@pytest.mark.parametrize("name", ["Rout", "__path_of_nothing__", "_private"])
def test_an_unknown_name_is_no_attribute(name: str) -> None:
    module = importlib.import_module("fastws_compat.routing")
    assert not hasattr(module, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}'"):
        exec(f"from fastws_compat.routing import {name}", {})


def test_an_unknown_module_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'fastws_compat\.nothing'"):
        importlib.import_module("fastws_compat.nothing")
    assert importlib.util.find_spec("fastws_compat.nothing") is None


def test_a_module_has_its_own_loader() -> None:
    module = importlib.import_module("fastws_compat.routing.paths")
    assert "_Loader" not in type(module.__spec__.loader).__name__
    assert "def compile_path" in inspect.getsource(module)
    spec = importlib.util.find_spec("fastws_compat.convertors")
    assert spec is not None
    assert spec.loader is not None


def test_an_import_of_something_else_is_not_explained() -> None:
    check = "import fastws_compat, sys\ntry: import nothing_of_the_kind\nexcept ImportError as e: print(e)"
    check += "\nprint('fastws_compat.porting.names' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["No module named 'nothing_of_the_kind'", "False"]


def test_the_advice_for_a_middleware_that_was_not_ported() -> None:
    with pytest.raises(DeclarationError, match=r'CORS does not cover .* FASTWS\["ALLOWED_ORIGINS"\]'):
        FastAPI().add_middleware(CORSMiddleware, allow_origins=["*"])


def test_a_folder_that_a_move_has_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes a folder without modules for a namespace package, which has no loader to wrap."""
    (tmp_path / "left_behind").mkdir()
    monkeypatch.setattr(fastws_compat, "__path__", [*fastws_compat.__path__, str(tmp_path)])
    try:
        module = importlib.import_module("fastws_compat.left_behind")
        assert list(module.__path__) == [str(tmp_path / "left_behind")]
    finally:
        sys.modules.pop("fastws_compat.left_behind", None)
        vars(fastws_compat).pop("left_behind", None)


def test_a_second_import_of_the_package() -> None:
    """coverage imports what it measures, and then removes it from `sys.modules`."""
    check = """
import sys
import fastws_compat
for name in [name for name in sys.modules if name.startswith("fastws_compat")]:
    del sys.modules[name]
import fastws_compat.routing
print([finder.__name__ for finder in sys.meta_path if finder.__module__ == "fastws_compat"])
try: import fastws_compat.nothing
except ImportError as e: print(e)
"""
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["['_Finder']", "No module named 'fastws_compat.nothing'"]
