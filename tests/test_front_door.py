"""`from fastws_compat import ...`: every name exists, and none is imported before its first use."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fastws_compat

SOURCE = Path(fastws_compat.__file__)


def seen_by_type_checkers() -> dict[str, str]:
    """The module from which type checkers import each name."""
    [block] = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def loaded_by(statement: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_python_and_type_checkers_see_the_same() -> None:
    assert sorted(seen_by_type_checkers()) == sorted(fastws_compat.__all__)


@pytest.mark.parametrize(("name", "module"), seen_by_type_checkers().items())
def test_a_name_is_what_its_module_has(name: str, module: str) -> None:
    home = import_module(module)
    found = import_module(f"{module}.{name}") if name == "status" else getattr(home, name)
    assert getattr(fastws_compat, name) is found
    assert name in dir(fastws_compat)


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = loaded_by("import fastws_compat")
    assert [name for name in loaded if name.startswith("fastws_compat")] == ["fastws_compat"]
    assert not loaded & {"asyncio", "pydantic", "pydantic_core", "django"}


def test_a_module_is_an_attribute_without_being_imported_as_with_fastapi() -> None:
    loaded = loaded_by("import fastws_compat; fastws_compat.routing.APIRouter")
    assert "fastws_compat.routing" in loaded


def test_a_star_takes_the_names_and_nothing_more() -> None:
    names: dict[str, object] = {}
    exec("from fastws_compat import *", names)
    assert names.keys() - {"__builtins__"} == set(fastws_compat.__all__)


@pytest.mark.parametrize("name", ["Websocket", "_Depends", "__wrapped__"])
def test_an_unknown_name_is_no_attribute(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'fastws_compat' has no attribute '{name}'"):
        getattr(fastws_compat, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from fastws_compat import {name}", {})


def test_a_module_that_fails_to_import_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastws_compat.background", raising=False)
    monkeypatch.delattr(fastws_compat, "background", raising=False)
    monkeypatch.delattr(fastws_compat, "BackgroundTasks", raising=False)
    monkeypatch.setitem(sys.modules, "fastws_compat.concurrency", None)
    with pytest.raises(ModuleNotFoundError, match=r"fastws_compat\.concurrency"):
        _ = fastws_compat.BackgroundTasks


def test_a_change_of_a_user_does_not_load_what_serves_sockets() -> None:
    apps = ["channels", "django.contrib.auth", "django.contrib.contenttypes", "fastws_compat"]
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    setup = "from django.conf import settings; import django; settings.configure"
    setup += f"(SECRET_KEY='x', INSTALLED_APPS={apps}, DATABASES={databases}); django.setup()"
    change = "from fastws_compat.logins import receivers; receivers.recheck(['1'], 'default')"
    loaded = loaded_by(f"{setup}; {change}")
    assert "fastws_compat.logins.registry" in loaded
    assert not loaded & {"pydantic_core", "fastws_compat.websockets", "fastws_compat.connections.lifecycle"}


def test_the_documented_digest_of_a_session_loads_no_socket() -> None:
    loaded = loaded_by("from fastws_compat.logins import session_digest")
    assert not [name for name in loaded if name.startswith("fastws_compat.connections")]


def test_an_installed_app_loads_the_library_only_where_sockets_are_served() -> None:
    apps = ["channels", "django.contrib.auth", "django.contrib.contenttypes", "fastws_compat"]
    setup = "from django.conf import settings; import django"
    setup += f"; settings.configure(SECRET_KEY='x', INSTALLED_APPS={apps}); django.setup()"
    loaded = loaded_by(setup)
    assert "fastws_compat.logins.receivers" in loaded
    assert not loaded & {
        "pydantic_core",
        "fastws_compat.connections.lifecycle",
        "fastws_compat.routing",
        "fastws_compat.groups",
    }
