"""Stand-ins for what upstream tests import and the library does not have, because it is HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastws_compat.routing import BaseRoute, Match, NoMatchFound
from fastws_compat.types import Scope


class HTTPRoute(BaseRoute):
    """A route for HTTP: no WebSocket matches it."""

    def __init__(self, path: str, endpoint: Any = None, **options: Any) -> None:
        self.path, self.endpoint = path, endpoint
        self.name = options.get("name") or getattr(endpoint, "__name__", "")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)


class Absent:
    """Accepts what a test file does with it at import; a test that uses it fails."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else self

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __getitem__(self, item: Any) -> Absent:
        return self

    def __or__(self, other: Any) -> Absent:
        return self

    __ror__ = __or__

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (object,)


def Missing(name: str) -> Any:
    return HTTPRoute if name == "Route" else Absent(name)
