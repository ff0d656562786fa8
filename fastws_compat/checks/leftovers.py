"""Modules of endpoints and dependencies in which FastAPI's or Starlette's own classes are left over."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from django.core.checks import Warning

from fastws_compat.checks.messages import Messages, message
from fastws_compat.porting import foreign
from fastws_compat.routing import APIWebSocketRoute, BaseRoute, Host, Mount, WebSocketRoute, flatten
from fastws_compat.schema import catalogue

# What code catches or compares with. Everything else is refused at import.
NAMES = frozenset({"HTTPException", "WebSocketDisconnect", "WebSocketException", "WebSocketState"})


def check_leftovers(application: Any) -> Messages:
    if sys.modules.keys().isdisjoint(foreign.PACKAGES):
        return []
    return [
        found
        for module in modules(application)
        if (names := sorted(set(map(_full_name, held(module)))))
        for found in message(
            Warning,
            "W012",
            f"Module {module.__name__!r} uses {', '.join(names)}, which no socket here raises or has: "
            "`except` and comparisons with it never match.",
            "Import the name from fastws_compat.",
        )
    ]


def modules(application: Any) -> list[ModuleType]:
    """The modules in which the endpoints of an application and their dependencies are written."""
    names = {
        name: None
        for root in catalogue.roots(application)
        for call in _calls(root.routes)
        for layer in foreign.layers(call)
        for name in _modules_of(layer)
        if name.partition(".")[0] not in (*foreign.PACKAGES, foreign.OURS)
    }
    return [sys.modules[name] for name in names if name in sys.modules]


def _calls(routes: Iterable[BaseRoute]) -> Iterator[Callable[..., Any]]:
    """Endpoints and dependencies; a mounted application of FastAPI's or Starlette's may have their names."""
    for route in flatten(routes):
        if isinstance(route, Mount | Host):
            yield from _calls(route.routes)
        elif isinstance(route, WebSocketRoute):
            yield route.endpoint
            if isinstance(route, APIWebSocketRoute):
                yield from (step.call for step in route.plan.steps)


def _modules_of(call: Any) -> list[str]:
    """The module of a function, or those of a class and its bases."""
    if isinstance(call, FunctionType):
        return [str(call.__globals__.get("__name__"))]  # a wrapper's `__module__` is that of what it wraps
    return [cls.__module__ for cls in (call if isinstance(call, type) else type(call)).__mro__]


def held(module: ModuleType) -> Iterator[type]:
    """The foreign classes of those names that a module imports, or reads from a module that it imports."""
    names = vars(module)
    for value in list(names.values()):
        yield from filter(_is_left_over, value if isinstance(value, tuple) else (value,))
    for function in _functions(module):
        yield from filter(_is_left_over, _reached(function.__code__, names))


def _is_left_over(value: Any) -> bool:
    return isinstance(value, type) and value.__name__ in NAMES and foreign.is_foreign_module(value.__module__)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that are written in a module."""
    values = list(vars(module).values())
    for value in values:
        own = vars(value).values() if isinstance(value, type) and value.__module__ == module.__name__ else ()
        for candidate in (value, *own):
            for layer in foreign.layers(candidate):
                if isinstance(layer, FunctionType) and layer.__globals__ is vars(module):
                    yield layer


def _reached(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """What a function imports by name, and what it reads from a foreign module (`fastapi.HTTPException`)."""
    value = imported = None
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = names.get(step.argval)
        elif step.opname == "IMPORT_NAME":
            imported = sys.modules.get(step.argval)
        elif step.opname == "IMPORT_FROM":
            yield _attribute(imported, step.argval)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            value = _attribute(value, step.argval)
            yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _reached(constant, names)


def _attribute(module: Any, name: str) -> Any:
    is_foreign = isinstance(module, ModuleType) and foreign.is_foreign_module(module.__name__)
    return getattr(module, name, None) if is_foreign else None


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"
