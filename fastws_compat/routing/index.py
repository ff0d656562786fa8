"""The routes of a router: a list that counts its changes, and an index by the fixed part of each path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from fastws_compat.porting import foreign
from fastws_compat.routing.routes import BaseRoute

# A route and its position in the router.
Entry = tuple[int, BaseRoute]


class Routes(list[BaseRoute]):
    """The routes of a router; counts its changes, so that the router knows when its index is stale."""

    def __init__(self, routes: Iterable[BaseRoute] = ()) -> None:
        super().__init__(_native(routes))
        self.changes = 0


def _counted(name: str) -> Callable[..., Any]:
    change = getattr(list, name)

    def method(self: Routes, *args: Any, **kwargs: Any) -> Any:
        self.changes += 1
        return change(self, *args, **kwargs)

    return method


def _native(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """The routes as a list; DeclarationError for a route of FastAPI or Starlette, whose interface differs."""
    found = list(routes)
    for route in found:
        foreign.refuse(route, "A list of routes")
    return found


def _adding(name: str) -> Callable[..., Any]:
    change = _counted(name)

    def method(self: Routes, *args: Any) -> Any:
        *place, new = args
        if name in ("extend", "__iadd__") or any(isinstance(index, slice) for index in place):
            return change(self, *place, _native(new))
        return change(self, *place, *_native([new]))

    return method


for _name in ("remove", "pop", "clear", "sort", "reverse", "__delitem__", "__imul__"):
    setattr(Routes, _name, _counted(_name))
for _name in ("append", "insert", "extend", "__setitem__", "__iadd__"):
    setattr(Routes, _name, _adding(_name))


class Index:
    """Routes by the fixed part of their path, so that matching costs the same for any number of routes.

    `candidates` may include routes that do not match, but never misses one that does, and keeps the order.
    """

    def __init__(self, routes: Iterable[BaseRoute], path_of: Callable[[BaseRoute], str]) -> None:
        self._exact: dict[str, list[Entry]] = {}
        self._below: dict[str, list[Entry]] = {}
        for entry in enumerate(routes):
            path = path_of(entry[1])
            fixed, brace, _ = path.partition("{")
            if brace:
                self._below.setdefault(fixed[: fixed.rfind("/") + 1], []).append(entry)
            else:
                self._exact.setdefault(path, []).append(entry)
        self._depth = max((prefix.count("/") for prefix in self._below), default=0)
        self._shortest = min(map(len, self._below), default=0)

    def candidates(self, path: str) -> list[Entry]:
        """The routes that may match `path`, in the order of the router."""
        # A pattern's `$` also matches before a final newline.
        found = self._exact.get(path.removesuffix("\n"), [])
        end = self._shortest
        for _ in range(self._depth + 1):
            below = self._below.get(path[:end])
            if below is not None:
                found = [*found, *below] if found else below
            end = path.find("/", end) + 1
            if not end:
                break
        return sorted(found, key=itemgetter(0)) if len(found) > 1 else found
