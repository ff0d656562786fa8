"""Included routers: the routes of one router inside another (FastAPI)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastws_compat.datastructures import URLPath
from fastws_compat.limits import Limits
from fastws_compat.params import Depends
from fastws_compat.routing.options import Described
from fastws_compat.routing.routes import BaseRoute, Match, WebSocketRoute, first_url, flatten
from fastws_compat.types import Scope

# Changes whenever the routes of a router change: a count, and the versions of the routers it includes.
Version = tuple[Any, ...]


class SourceRouter(Protocol):
    """The router that is included."""

    @property
    def routes(self) -> list[BaseRoute]: ...

    @property
    def version(self) -> Version: ...


class ParentRouter(Protocol):
    """The router that includes another."""

    prefix: str
    dependencies: list[Depends]
    limits: Limits
    dependency_overrides_provider: Any
    extra: dict[str, Any]


class IncludedRouter(BaseRoute):
    """A router inside another. Its routes get the parent's prefix, dependencies and limits.

    Routes that are added to the router later are served too.
    """

    def __init__(
        self,
        router: SourceRouter,
        parent: ParentRouter,
        prefix: str,
        dependencies: Sequence[Depends],
        options: Mapping[str, Any] = {},
    ) -> None:
        self.original_router = router
        self.prefix = parent.prefix + prefix
        self.dependencies = [*parent.dependencies, *dependencies]
        self.limits = parent.limits
        # What the documentation says of all the routes: what `include_router` was told, and the parent.
        self.options = (options, parent.extra)
        self.owner = parent.dependency_overrides_provider
        self._version: Version = (-1,)
        self._routes: list[BaseRoute] = []

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes as they are served; rebuilt after the router has changed."""
        version = self.original_router.version
        if version != self._version:
            self._routes = [
                self._limited(route.included(self.prefix, self.dependencies, self.owner))
                for route in flatten(self.original_router.routes)
            ]
            self._version = version
        return self._routes

    def expanded(self) -> Sequence[BaseRoute]:
        return self.routes

    def _limited(self, route: BaseRoute) -> BaseRoute:
        if isinstance(route, WebSocketRoute):
            route.limits = self.limits | route.limits
        if isinstance(route, Described):
            for options in self.options:
                route.inherit(options)
        return route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found = (route.matches(scope) for route in self.routes)
        return next(((match, child) for match, child in found if match is Match.FULL), (Match.NONE, {}))

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        return first_url(self.routes, name, path_params)


@dataclass(frozen=True)
class RouteContext:
    """A route as it is served and as it was declared; it has the attributes of the served one (FastAPI)."""

    route: BaseRoute
    original_route: BaseRoute

    def __getattr__(self, name: str) -> Any:
        return getattr(self.route, name)


def iter_route_contexts(routes: Iterable[BaseRoute | RouteContext]) -> Iterator[RouteContext]:
    """Every route that is served; routes of included routers have their whole path (FastAPI)."""
    for route in routes:
        if isinstance(route, RouteContext):
            yield route
        elif isinstance(route, IncludedRouter):
            originals = flatten(route.original_router.routes)
            yield from (RouteContext(*pair) for pair in zip(route.routes, originals, strict=True))
        else:
            yield RouteContext(route, route)


def included_routers(routes: Iterable[BaseRoute]) -> Iterator[SourceRouter]:
    """The routers included in `routes`, at any depth."""
    for route in routes:
        if isinstance(route, IncludedRouter):
            yield route.original_router
            yield from included_routers(route.original_router.routes)
