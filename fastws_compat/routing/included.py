"""Included routers: the routes of one router inside another (FastAPI)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastws_compat.datastructures import URLPath
from fastws_compat.limits import Limits
from fastws_compat.params import Depends
from fastws_compat.routing.options import Described
from fastws_compat.routing.routes import BaseRoute, Match, WebSocketRoute, first_url, flatten
from fastws_compat.types import Scope

# Changes whenever the routes of a router change: a count, and the versions of the routers it includes.
Version = tuple[Any, ...]

# A `RouteContext` has these even if its route does not; they are None then.
COMMON_ATTRIBUTES = ("path", "path_format", "name", "methods", "endpoint")


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
        #: The router that is included.
        self.original_router = router
        #: What precedes the paths of its routes here.
        self.prefix = parent.prefix + prefix
        #: The dependencies that its routes get here.
        self.dependencies = [*parent.dependencies, *dependencies]
        #: The limits of the router that includes it.
        self.limits = parent.limits
        #: What documents say about its routes: the options of the inclusion, and those of the parent.
        self.options = (options, parent.extra)
        #: The object whose `dependency_overrides` apply here.
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
                for route in filter(_can_be_included, flatten(self.original_router.routes))
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
    """A route as it was declared, with the attributes that it has where it is served (FastAPI)."""

    #: The route as it was declared.
    route: BaseRoute
    _served: BaseRoute | None = field(default=None, repr=False)

    @property
    def original_route(self) -> BaseRoute:
        """The same as `route`, under the name that FastAPI uses."""
        return self.route

    def __getattr__(self, name: str) -> Any:
        served = self._served or self.route
        return getattr(served, name, None) if name in COMMON_ATTRIBUTES else getattr(served, name)


def iter_route_contexts(routes: Iterable[BaseRoute | RouteContext]) -> Iterator[RouteContext]:
    """Every route that is served; routes of included routers have their whole path (FastAPI)."""
    for route in routes:
        if isinstance(route, RouteContext):
            yield route
        elif isinstance(route, IncludedRouter):
            inner = filter(_can_be_included, declared(route.original_router.routes))
            yield from map(RouteContext, inner, route.routes)
        else:
            yield RouteContext(route)


def declared(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes of `routes` and of the routers included in them, as they were declared."""
    for route in routes:
        if isinstance(route, IncludedRouter):
            yield from declared(route.original_router.routes)
        else:
            yield route


def _can_be_included(route: BaseRoute) -> bool:
    return type(route).included is not BaseRoute.included


def included_routers(routes: Iterable[BaseRoute]) -> Iterator[SourceRouter]:
    """The routers included in `routes`, at any depth."""
    for route in routes:
        if isinstance(route, IncludedRouter):
            yield route.original_router
            yield from included_routers(route.original_router.routes)
