"""Routers with a prefix and dependencies (FastAPI)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

from fastws_compat.dependencies.annotations import name_of
from fastws_compat.exceptions import DeclarationError, FastAPIError
from fastws_compat.limits import Limits, split
from fastws_compat.params import Depends, dependency_list
from fastws_compat.porting import foreign
from fastws_compat.porting.http_only import HTTP_ONLY, INCLUDE_OPTIONS, ROUTER_OPTIONS, HTTPOnly
from fastws_compat.routing.included import IncludedRouter, included_routers
from fastws_compat.routing.lifespans import merged, run_all
from fastws_compat.routing.options import RouteOptions, check_path, check_route_options, router_options
from fastws_compat.routing.routers import Router
from fastws_compat.routing.routes import APIWebSocketRoute, BaseRoute, WebSocketRoute, flatten
from fastws_compat.types import ASGIApp, DecoratedCallable, Lifespan

if TYPE_CHECKING:
    from django.urls import URLPattern


class APIRouter(Router):
    """Routes with a common prefix and common dependencies, to be included in an application (FastAPI).

    Options that only matter for HTTP (responses, route_class ...) are accepted and kept in `extra`.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        dependencies: Sequence[Depends] | None = None,
        routes: Sequence[BaseRoute] | None = None,
        redirect_slashes: bool = True,
        default: ASGIApp | None = None,
        dependency_overrides_provider: Any | None = None,
        on_startup: Sequence[Callable[[], Any]] | None = None,
        on_shutdown: Sequence[Callable[[], Any]] | None = None,
        lifespan: Lifespan[Any] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(routes, redirect_slashes, default, lifespan)
        foreign.refuse(dependency_overrides_provider, "dependency_overrides_provider=")
        if lifespan is None:
            self.lifespan_context = self._run_events
        check_prefix(prefix)
        #: What precedes the paths of its routes.
        self.prefix = prefix
        #: The dependencies of all its routes.
        self.dependencies = dependency_list(dependencies, "dependencies= of an application or router")
        #: The object whose `dependency_overrides` apply, usually the application.
        self.dependency_overrides_provider = dependency_overrides_provider
        limits, extra = split(extra)
        #: The limits of all its routes.
        self.limits = Limits(limits)
        #: The functions that run when the server starts.
        self.on_startup = list(on_startup or [])
        #: The functions that run when the server stops.
        self.on_shutdown = list(on_shutdown or [])
        #: The options for HTTP and for documents, as they were passed.
        self.extra = router_options(extra, ROUTER_OPTIONS, "APIRouter.__init__")

    @property
    def websocket_urlpatterns(self) -> list[URLPattern]:
        """The current routes of the router, as entries for Channels' `URLRouter`."""
        from fastws_compat.consumers import urlpatterns

        return urlpatterns(self, flatten(self.routes), self.dependency_overrides_provider)

    def add_api_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
        **options: Unpack[RouteOptions],
    ) -> None:
        """Serve `endpoint` at prefix + `path`; the router's dependencies run first, then `dependencies`."""
        check_route_options(options, "APIRouter.add_api_websocket_route")
        own = dependency_list(dependencies, f"dependencies= of {name_of(endpoint)}")
        route = APIWebSocketRoute(
            self.prefix + path,
            endpoint,
            name=name,
            dependencies=[*self.dependencies, *own],
            dependency_overrides_provider=self.dependency_overrides_provider,
            limits=self.limits | Limits(split(options)[0]),
            options=options,
        )
        route.inherit(self.extra)
        if self.dependency_overrides_provider is not None:
            route.check()
        self.routes.append(route)

    def websocket(
        self,
        path: str,
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
        **options: Unpack[RouteOptions],
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a WebSocket; the function itself is not changed."""
        check_path(path)
        check_route_options(options, "APIRouter.websocket")

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            self.add_api_websocket_route(path, func, name, dependencies=dependencies, **options)
            return func

        return decorator

    def add_websocket_route(self, path: str, endpoint: Callable[..., Any], name: str | None = None) -> None:
        """Serve `endpoint(websocket)`; the router's prefix and dependencies do not apply (Starlette)."""
        self.routes.append(WebSocketRoute(path, endpoint, name=name, limits=self.limits))

    def websocket_route(
        self, path: str, name: str | None = None
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function that takes the WebSocket and nothing else (Starlette)."""
        check_path(path)

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            self.add_websocket_route(path, func, name)
            return func

        return decorator

    def include_router(
        self,
        router: APIRouter,
        *,
        prefix: str = "",
        dependencies: Sequence[Depends] | None = None,
        **extra: Any,
    ) -> None:
        """Serve the routes of `router` here, including those added later; options for HTTP are ignored."""
        foreign.refuse(router, "include_router()")
        if not isinstance(router, APIRouter):
            raise DeclarationError(
                f"include_router() got a {type(router).__name__}, which is not an APIRouter: write "
                "app.mount(path, application) for an application."
            )
        common = dependency_list(dependencies, "dependencies= of include_router()")
        self._refuse_cycle(router)
        router_options(extra, INCLUDE_OPTIONS, "include_router")
        check_prefix(prefix)
        if not prefix:
            _refuse_empty_paths(router)
        included = IncludedRouter(router, self, prefix, common, extra)
        if self.dependency_overrides_provider is not None:
            for route in included.routes:
                if isinstance(route, APIWebSocketRoute):
                    route.check()
        self.routes.append(included)
        self._adopt_events(router)

    def _refuse_cycle(self, router: APIRouter) -> None:
        if router is self:
            raise AssertionError(
                "Cannot include the same APIRouter instance into itself. "
                "Did you mean to include a different router?"
            )
        if any(inner is self for inner in included_routers(router.routes)):
            raise AssertionError(
                "Cannot include an APIRouter instance that already includes this router. "
                "Did you mean to include a different router?"
            )

    def _adopt_events(self, router: APIRouter) -> None:
        for event_type, handlers in (("startup", router.on_startup), ("shutdown", router.on_shutdown)):
            for handler in handlers:
                self.add_event_handler(event_type, handler)
        self.has_lifespan = self.has_lifespan or router.has_lifespan
        self.lifespan_context = merged(self.lifespan_context, router.lifespan_context)

    def add_event_handler(self, event_type: str, func: Callable[[], Any]) -> None:
        """Run a function at "startup" or "shutdown"; `lifespan` is the newer way."""
        if event_type not in ("startup", "shutdown"):
            raise AssertionError(f"There is no event {event_type!r}, only 'startup' and 'shutdown'")
        (self.on_startup if event_type == "startup" else self.on_shutdown).append(func)

    def on_event(self, event_type: str) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function to run at "startup" or "shutdown"; `lifespan` is the newer way."""

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            self.add_event_handler(event_type, func)
            return func

        return decorator

    @asynccontextmanager
    async def _run_events(self, app: Any) -> AsyncIterator[None]:
        await run_all(self.on_startup)
        try:
            yield
        finally:
            await run_all(self.on_shutdown)


for _name in HTTP_ONLY:
    setattr(APIRouter, _name, HTTPOnly(_name))


def check_prefix(prefix: str) -> None:
    """Raise AssertionError for a prefix that cannot stand before the path of a route."""
    if prefix and not prefix.startswith("/"):
        raise AssertionError("A path prefix must start with '/'")
    if prefix.endswith("/"):
        raise AssertionError("A path prefix must not end with '/', as the routes will start with '/'")


def _refuse_empty_paths(router: APIRouter) -> None:
    for route in flatten(router.routes):
        if getattr(route, "path", None) == "":
            name = getattr(route, "name", "unknown")
            raise FastAPIError(f"Prefix and path cannot be both empty (path operation: {name})")
