"""Classes and functions of FastAPI and Starlette: refused in declarations, translated when raised.

An import that was not changed looks right but has no effect, even where it was meant to restrict access.
Neither package may be imported here, so their objects are recognized by module name.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any, NewType, TypeVar, get_args, get_origin

from fastws_compat.exceptions import DeclarationError
from fastws_compat.porting import names

OURS = names.PACKAGE
PACKAGES = ("fastapi", "starlette")
# The module of dependency-injector's markers, which it replaces by services in FastAPI's `Depends` only.
WIRING = "dependency_injector.wiring"


def is_foreign_module(name: Any) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in PACKAGES


def foreign_classes(cls: type) -> Iterator[type]:
    """The classes of the two packages among `cls` and its bases, the nearest first."""
    return (base for base in cls.__mro__ if is_foreign_module(base.__module__))


def origin(thing: Any) -> Any:
    """The foreign class or function that `thing` is, derives from or is made of; None for all others."""
    if isinstance(thing, MethodType):
        thing = thing.__func__
    if isinstance(thing, FunctionType):
        return thing if is_foreign_module(thing.__globals__.get("__name__")) else None
    return next(foreign_classes(thing if isinstance(thing, type) else type(thing)), None)


# In declarations


def refuse(thing: Any, where: str) -> None:
    """Raise DeclarationError if `thing` is foreign; `where` is the subject of the sentence."""
    found = origin(thing)
    if found is not None:
        raise DeclarationError(f"{where} uses {_described(thing, found)}, which {_instead(found)}.")


def refuse_call(call: Any, where: str) -> None:
    """Like `refuse`, for a callable and everything that it wraps or is bound to."""
    if type(call).__module__ == WIRING:
        raise DeclarationError(
            f"{where} uses {type(call).__name__} of dependency-injector, which is not resolved in this "
            "Depends: write a function that calls the container's provider."
        )
    for layer in layers(call):
        refuse(layer, where)


def refuse_annotation(annotation: Any, where: str, *, is_given: bool = False) -> None:
    """Like `refuse`, for every type that an annotation names.

    `is_given` means that a dependency provides the value. The annotation then decides nothing, so a class
    without a counterpart here is allowed.
    """
    for piece in pieces(annotation):
        found = origin(piece)
        if found is not None and not (is_given and isinstance(piece, type) and _home(found) is None):
            refuse(piece, where)


def pieces(annotation: Any) -> Iterator[Any]:
    """Every type that an annotation names and everything that `Annotated` lists, at any depth."""
    todo, seen = [annotation], dict[int, Any]()
    while todo:
        piece = todo.pop()
        if id(piece) not in seen:
            seen[id(piece)] = piece  # also keeps the object alive, so its id is not reused
            yield piece
            todo += _inside(piece)


def _inside(piece: Any) -> Iterable[Any]:
    if isinstance(piece, list | tuple):  # the parameters of a Callable
        return piece
    if isinstance(piece, NewType):
        return (piece.__supertype__,)
    if isinstance(piece, TypeVar):
        return (piece.__bound__, *piece.__constraints__)
    if type(piece).__name__ == "TypeAliasType":
        return (piece.__value__,)
    return (get_origin(piece), *get_args(piece))


def layers(call: Any) -> Iterator[Any]:
    """A callable, what it wraps, and the object that a method is bound to."""
    todo, seen = [call], set[int]()
    while todo:
        layer = todo.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        if isinstance(layer, functools.partial):
            todo.append(layer.func)
        elif isinstance(layer, MethodType):
            todo += (layer.__self__, layer.__func__)
        elif hasattr(layer, "__wrapped__"):
            todo.append(layer.__wrapped__)


def _described(thing: Any, found: Any) -> str:
    name = f"{found.__module__}.{found.__name__}"
    cls = thing if isinstance(thing, type) else type(thing)
    return f"{cls.__name__}, a subclass of {name}" if isinstance(found, type) and found is not cls else name


def _instead(found: Any) -> str:
    home = _home(found)
    if home is None:
        path = found.__module__.partition(".")[2]
        advice = names.advice_on(path, found.__name__) or "remove it."
        return f"has no counterpart in {OURS}: {advice.removesuffix('.')}"
    return f"{OURS} does not recognize: write 'from {home} import {found.__name__}'"


def _home(found: Any) -> str | None:
    """The shortest module path of this package from which the name can be imported."""
    parts = found.__module__.split(".")[1:]
    for depth in range(len(parts) + 1):
        module = ".".join([OURS, *parts[:depth]])
        try:
            getattr(importlib.import_module(module), found.__name__)
        except (ImportError, AttributeError):
            continue
        return module
    return None


# Exceptions raised during a connection


def twin_class(cls: type) -> type | None:
    """This package's class of the same name, in the module of the same name, if that module was imported."""
    if not is_foreign_module(cls.__module__):
        return None
    module = sys.modules.get(OURS + cls.__module__.removeprefix(cls.__module__.partition(".")[0]))
    found = vars(module).get(cls.__name__) if module is not None else None
    return found if isinstance(found, type) else None


def twin(exc: Exception) -> Exception | None:
    """`exc` as an instance of its counterpart here; None if it is not foreign or has no counterpart."""
    for cls in foreign_classes(type(exc)):
        own = twin_class(cls)
        if own is not None:
            made: Exception = own.__new__(own, *exc.args)
            vars(made).update(vars(exc))  # both have the same attributes; a subclass may have more
            made.__cause__ = exc
            return made
    return None


def means(exc: BaseException, kind: type[BaseException]) -> bool:
    """isinstance(), which also accepts the foreign twin of `kind`."""
    return isinstance(exc, kind) or any(twin_class(cls) is kind for cls in foreign_classes(type(exc)))
