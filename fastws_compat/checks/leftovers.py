"""A check for FastAPI's or Starlette's own classes in the modules of endpoints and dependencies."""

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

# Names that code catches or compares with. All other foreign names raise DeclarationError at import.
NAMES = frozenset({"HTTPException", "WebSocketDisconnect", "WebSocketException", "WebSocketState"})


def check_leftovers(application: Any) -> Messages:
    if sys.modules.keys().isdisjoint(foreign.PACKAGES):
        return []
    return [
        found
        for module in modules(application)
        if (names := sorted(set(map(_full_name, foreign_classes(module)))))
        for found in message(
            Warning,
            "W012",
            f"The module {module.__name__!r} uses {', '.join(names)}, which sockets of fastws_compat never "
            "raise or return, so `except` clauses and comparisons with it never match.",
            "Import the same name from fastws_compat.",
        )
    ]


def modules(application: Any) -> list[ModuleType]:
    """The modules that define the endpoints of an application and their dependencies."""
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
    """Endpoints and dependencies, but not those of a mounted FastAPI or Starlette application."""
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
        return [str(call.__globals__.get("__name__"))]  # `functools.wraps` copies `__module__`
    return [cls.__module__ for cls in (call if isinstance(call, type) else type(call)).__mro__]


def foreign_classes(module: ModuleType) -> Iterator[type]:
    """The foreign classes from NAMES that a module imports, or reads from a module that it imports."""
    names = vars(module)
    for value in list(names.values()):
        yield from filter(_is_left_over, value if isinstance(value, tuple) else (value,))
    for function in _functions(module):
        yield from filter(_is_left_over, _values_read(function.__code__, names))


def _is_left_over(value: Any) -> bool:
    return isinstance(value, type) and value.__name__ in NAMES and foreign.is_foreign_module(value.__module__)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that a module defines."""
    values = list(vars(module).values())
    for value in values:
        own = vars(value).values() if isinstance(value, type) and value.__module__ == module.__name__ else ()
        for candidate in (value, *own):
            for layer in foreign.layers(candidate):
                if isinstance(layer, FunctionType) and layer.__globals__ is vars(module):
                    yield layer


def _values_read(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """The values that a function imports by name or reads from a foreign module (`fastapi.HTTPException`)."""
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
            yield from _values_read(constant, names)


def _attribute(module: Any, name: str) -> Any:
    is_foreign = isinstance(module, ModuleType) and foreign.is_foreign_module(module.__name__)
    return getattr(module, name, None) if is_foreign else None


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"
