"""Routers: which route gets a connection, and how routers nest (FastAPI and Starlette)."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack, cast

from fastws_compat import conf
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.registry import drain
from fastws_compat.connections.states import SESSION
from fastws_compat.datastructures import Headers, URLPath, parse_host_header
from fastws_compat.dependencies.signature import refuse_foreign
from fastws_compat.exception_handlers import serve_alone
from fastws_compat.exceptions import FastAPIError
from fastws_compat.limits import LimitOptions, Limits, check_route_options, split
from fastws_compat.logger import logger
from fastws_compat.middleware import Middleware
from fastws_compat.params import Depends
from fastws_compat.porting import foreign
from fastws_compat.porting.http_only import HTTP_ONLY, INCLUDE_OPTIONS, ROUTER_OPTIONS, HTTPOnly, http_options
from fastws_compat.requests import get_route_path
from fastws_compat.routing.hints import nearest
from fastws_compat.routing.index import Index, Routes
from fastws_compat.routing.lifespans import as_context, merged, run_all
from fastws_compat.routing.paths import compile_path as compile_path
from fastws_compat.routing.paths import convert
from fastws_compat.routing.paths import replace_params as replace_params
from fastws_compat.routing.routes import CHOSEN, enter, not_found, path_pattern, wrap
from fastws_compat.routing.routes import APIWebSocketRoute as APIWebSocketRoute
from fastws_compat.routing.routes import BaseRoute as BaseRoute
from fastws_compat.routing.routes import Match as Match
from fastws_compat.routing.routes import NoMatchFound as NoMatchFound
from fastws_compat.routing.routes import WebSocketRoute as WebSocketRoute
from fastws_compat.routing.routes import websocket_session as websocket_session
from fastws_compat.types import ASGIApp, DecoratedCallable, Lifespan, Receive, Scope, Send
from fastws_compat.websockets import WebSocketClose

if TYPE_CHECKING:
    from django.urls import URLPattern

# The attribute of a pattern for `URLRouter` that tells the system checks which router it is of.
PATTERN_OF = "fastws_router"

# A router's state: how often its routes have changed, and the versions of the routers that it includes.
Version = tuple[Any, ...]


class Mount(BaseRoute):
    """An ASGI application, or routes, below a path."""

    def __init__(
        self,
        path: str,
        app: ASGIApp | None = None,
        routes: Sequence[BaseRoute] | None = None,
        name: str | None = None,
        *,
        middleware: Sequence[Middleware] | None = None,
    ) -> None:
        if path and not path.startswith("/"):
            raise AssertionError("Routed paths must start with '/'")
        if app is None and routes is None:
            raise AssertionError("Either 'app=...', or 'routes=' must be specified")
        self.base_app: Any = Router(routes) if app is None else app
        self.app = wrap(self.base_app, middleware)
        self.name = name
        self._compile(path)

    def _compile(self, path: str) -> None:
        self.path = path.rstrip("/")
        self.path_regex, self.path_format, self.param_convertors = compile_path(self.path + "/{path:path}")

    @property
    def routes(self) -> list[BaseRoute]:
        return getattr(self.base_app, "routes", [])

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        route_path = get_route_path(scope)
        match = self.path_regex.match(route_path)
        if match is None:
            return Match.NONE, {}
        params = convert(match, self.param_convertors)
        rest = "/" + params.pop("path")
        return Match.FULL, self._child_scope(scope, params, route_path[: -len(rest)])

    def _child_scope(self, scope: Scope, params: dict[str, Any], matched: str) -> Scope:
        root_path = scope.get("root_path", "")
        return {
            "path_params": {**scope.get("path_params", {}), **params},
            # The root path above all mounts: url_for() builds on it.
            "app_root_path": scope.get("app_root_path", root_path),
            "root_path": root_path + matched,
            "endpoint": self.app,
        }

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        if self.name is not None and name == self.name and "path" in path_params:
            params = {**path_params, "path": path_params["path"].lstrip("/")}
            path, remaining = replace_params(self.path_format, self.param_convertors, params)
            if not remaining:
                return URLPath(path=path)
        elif self.name is None or name.startswith(self.name + ":"):
            prefix, remaining = replace_params(
                self.path_format, self.param_convertors, {**path_params, "path": ""}
            )
            if "path" in path_params:
                remaining["path"] = path_params["path"]
            url = _child_url(self, name, remaining)
            if url is not None:
                return URLPath(path=prefix.rstrip("/") + str(url), protocol=url.protocol)
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _run_foreign(self.app, scope, receive, send)

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        mount = copy.copy(self)
        mount._compile(prefix + self.path)
        return mount

    def urlpattern(self, owner: Any) -> URLPattern:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            params = {
                name: self.param_convertors[name].convert(value) if isinstance(value, str) else value
                for name, value in scope["url_route"]["kwargs"].items()
                if name in self.param_convertors
            }
            rest = "/" + params.pop("path")
            matched = get_route_path(scope).removesuffix(rest)
            await enter(owner, self, self._child_scope(scope, params, matched), scope, receive, send)

        return path_pattern(self.path_regex.pattern, application, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mount) and self.path == other.path and self.app == other.app

    __hash__ = BaseRoute.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(path={self.path!r}, name={self.name or ''!r}, app={self.app!r})"


class Host(BaseRoute):
    """An ASGI application for a host name; the port is not looked at."""

    def __init__(self, host: str, app: ASGIApp, name: str | None = None) -> None:
        if host.startswith("/"):
            raise AssertionError("Host must not start with '/'")
        self.host = host
        self.app: Any = app
        self.name = name
        self.host_regex, self.host_format, self.param_convertors = compile_path(host)

    @property
    def routes(self) -> list[BaseRoute]:
        return getattr(self.app, "routes", [])

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        host = parse_host_header(Headers(scope=scope).get("host"))
        match = self.host_regex.match(host.host.lower()) if host is not None else None
        if match is None:
            return Match.NONE, {}
        params = convert(match, self.param_convertors)
        return Match.FULL, {
            "path_params": {**scope.get("path_params", {}), **params},
            "endpoint": self.app,
        }

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        if self.name is not None and name == self.name and "path" in path_params:
            params = dict(path_params)
            path = params.pop("path")
            host, remaining = replace_params(self.host_format, self.param_convertors, params)
            if not remaining:
                return URLPath(path=path, host=host)
        elif self.name is None or name.startswith(self.name + ":"):
            host, remaining = replace_params(self.host_format, self.param_convertors, path_params)
            url = _child_url(self, name, remaining)
            if url is not None:
                return URLPath(path=str(url), protocol=url.protocol, host=host)
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _run_foreign(self.app, scope, receive, send)

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        app = Router([Mount(prefix, self.app)]) if prefix else self.app
        return Host(self.host, app, self.name)

    def urlpattern(self, owner: Any) -> URLPattern:
        from django.urls import Resolver404

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            match, child_scope = self.matches(scope)
            if match is Match.NONE:
                raise Resolver404  # URLRouter goes on to its next entry
            await enter(owner, self, child_scope, scope, receive, send)

        return path_pattern("^", application, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and self.host == other.host and self.app == other.app

    __hash__ = BaseRoute.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(host={self.host!r}, name={self.name or ''!r}, app={self.app!r})"


class IncludedRouter(BaseRoute):
    """A router inside another: its routes, also later ones, with a prefix and dependencies before them."""

    def __init__(
        self, router: APIRouter, parent: APIRouter, prefix: str, dependencies: Sequence[Depends]
    ) -> None:
        self.original_router = router
        self.prefix = parent.prefix + prefix
        self.dependencies = [*parent.dependencies, *dependencies]
        self.limits = parent.limits
        self.owner = parent.dependency_overrides_provider
        self._version: Version = (-1,)
        self._routes: list[BaseRoute] = []

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes as they are served, made anew when the router got another."""
        version = self.original_router.version
        if version != self._version:
            self._routes = [
                self._limited(route.included(self.prefix, self.dependencies, self.owner))
                for route in flatten(self.original_router.routes)
            ]
            self._version = version
        return self._routes

    def _limited(self, route: BaseRoute) -> BaseRoute:
        if isinstance(route, WebSocketRoute):
            route.limits = self.limits | route.limits
        return route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return next(
            (
                (match, child)
                for match, child in (r.matches(scope) for r in self.routes)
                if match is Match.FULL
            ),
            (Match.NONE, {}),
        )

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        return _first_url(self.routes, name, path_params)


@dataclass(frozen=True)
class RouteContext:
    """A route as it is served and as it was declared; has the attributes of the served one (FastAPI)."""

    route: BaseRoute
    original_route: BaseRoute

    def __getattr__(self, name: str) -> Any:
        return getattr(self.route, name)


def iter_route_contexts(routes: Iterable[BaseRoute | RouteContext]) -> Iterator[RouteContext]:
    """Every route that is served, those of included routers with their whole path (FastAPI)."""
    for route in routes:
        if isinstance(route, RouteContext):
            yield route
        elif isinstance(route, IncludedRouter):
            originals = flatten(route.original_router.routes)
            yield from (RouteContext(*pair) for pair in zip(route.routes, originals, strict=True))
        else:
            yield RouteContext(route, route)


def _indexed_path(route: BaseRoute) -> str:
    """The path that a route looks at; of one that may look at something else, a path that is all open."""
    matches = type(route).matches
    if matches is Mount.matches:
        return f"{cast(Mount, route).path}/{{path}}"
    return cast(WebSocketRoute, route).path if matches is WebSocketRoute.matches else "{}"


class Router:
    """Gives a connection to the first of its routes that matches (Starlette)."""

    def __init__(
        self,
        routes: Sequence[BaseRoute] | None = None,
        redirect_slashes: bool = True,
        default: ASGIApp | None = None,
        lifespan: Lifespan[Any] | None = None,
        *,
        middleware: Sequence[Middleware] | None = None,
    ) -> None:
        if lifespan is not None:
            refuse_foreign(lifespan, "lifespan=")
        self._routes = Routes(routes or [])
        self._included: tuple[int, list[APIRouter]] = (-1, [])
        self._index: tuple[Version, Index] = ((-1,), Index([], _indexed_path))
        self.redirect_slashes = redirect_slashes
        # Whether there is a lifespan of the user's; `lifespan_context` is always something.
        self.has_lifespan = lifespan is not None
        self.default: ASGIApp = self.not_found if default is None else default
        self.lifespan_context: Callable[[Any], AbstractAsyncContextManager[Any]] = as_context(lifespan)
        self.middleware_stack = wrap(self.app, middleware)
        # Nothing stands before the routes: no middleware, and no method of a subclass.
        self._is_plain = not middleware and all(
            getattr(type(self), name) is getattr(Router, name) for name in ("__call__", "app")
        )

    @property
    def routes(self) -> Routes:
        return self._routes

    @routes.setter
    def routes(self, routes: Iterable[BaseRoute]) -> None:
        changes = self._routes.changes + 1
        self._routes = Routes(routes)
        self._routes.changes = changes

    @property
    def version(self) -> Version:
        """Differs after every change of the routes, of included routers too."""
        changes, included = self._included
        if changes != self._routes.changes:
            changes = self._routes.changes
            included = [route.original_router for route in self._routes if isinstance(route, IncludedRouter)]
            self._included = changes, included
        return (changes, *[router.version for router in included]) if included else (changes,)

    def match(self, scope: Scope) -> tuple[BaseRoute, Scope] | None:
        """The first route that takes the connection, and what it adds to the scope."""
        version = self.version
        if version != self._index[0]:
            self._index = version, Index(flatten(self.routes), _indexed_path)
        for _, route in self._index[1].candidates(get_route_path(scope)):
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                return route, child_scope
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and SESSION not in scope:
            await serve_alone(self.target, scope, receive, send, watched=not self._is_plain)
        else:
            await self.middleware_stack(scope, receive, send)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._target(scope)(scope, receive, send)

    def target(self, scope: Scope) -> ASGIApp:
        """What a connection goes to: for one who would call the router and stay for as long as it lasts."""
        return self._target(scope) if self._is_plain else self

    def _target(self, scope: Scope) -> ASGIApp:
        scope.setdefault("router", self)
        if scope["type"] == "lifespan":
            return self.lifespan
        found = scope.pop(CHOSEN, None) or self.match(scope)
        if found is None:
            return self.default
        route, child_scope = found
        scope.update(child_scope)
        return route.handle

    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What becomes of a path that no route has; for HTTP it is 404."""
        if scope["type"] == "websocket":
            await _refuse_path(scope, receive, send, self._hint(scope))
        else:
            await not_found(send)

    def _hint(self, scope: Scope) -> str:
        """With `DEBUG` on, which route may have been meant."""
        if not conf.debug():
            return ""
        paths = [route.path for route in flatten(self.routes) if isinstance(route, WebSocketRoute | Mount)]
        near = nearest(get_route_path(scope)[:200], paths)
        return "" if near is None else f": did you mean {near!r}?"

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan context between the server's startup and shutdown messages."""
        started = False
        await receive()
        try:
            async with self.lifespan_context(scope.get("app")) as state:
                if state is not None:
                    if "state" not in scope:
                        raise RuntimeError('The server does not support "state" in the lifespan scope.')
                    scope["state"].update(state)
                await send({"type": "lifespan.startup.complete"})
                started = True
                await receive()
                await drain(conf.get("SHUTDOWN_GRACE"))
        except BaseException:
            phase = "shutdown" if started else "startup"
            await send({"type": f"lifespan.{phase}.failed", "message": traceback.format_exc()})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path of the route with this name and exactly these parameters; NoMatchFound without one."""
        return _first_url(self.routes, name, path_params)

    def mount(self, path: str, app: ASGIApp, name: str | None = None) -> None:
        self.routes.append(Mount(path, app=app, name=name))

    def host(self, host: str, app: ASGIApp, name: str | None = None) -> None:
        self.routes.append(Host(host, app=app, name=name))

    def add_websocket_route(self, path: str, endpoint: Callable[..., Any], name: str | None = None) -> None:
        """Serve `endpoint(websocket)`: the router's prefix and dependencies do not apply (Starlette)."""
        self.routes.append(WebSocketRoute(path, endpoint, name=name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Router) and self.routes == other.routes

    __hash__ = object.__hash__


class APIRouter(Router):
    """Routes with a common prefix and common dependencies, to be included in an application (FastAPI).

    Options that only HTTP has (tags, responses, route_class ...) are accepted and kept in `extra`.
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
        foreign.refuse_dependencies(dependencies or [], "dependencies= of an application or router")
        foreign.refuse(dependency_overrides_provider, "dependency_overrides_provider=")
        if lifespan is None:
            self.lifespan_context = self._run_events
        check_prefix(prefix)
        self.prefix = prefix
        self.dependencies = list(dependencies or [])
        self.dependency_overrides_provider = dependency_overrides_provider
        limits, extra = split(extra)
        self.limits = Limits(limits)
        self.on_startup = list(on_startup or [])
        self.on_shutdown = list(on_shutdown or [])
        self.extra = http_options(extra, ROUTER_OPTIONS, "APIRouter.__init__")

    @property
    def websocket_urlpatterns(self) -> list[URLPattern]:
        """The routes that the router has now, as entries for Channels' `URLRouter`."""
        patterns = [route.urlpattern(self.dependency_overrides_provider) for route in flatten(self.routes)]
        for pattern in patterns:
            vars(pattern)[PATTERN_OF] = self
        return patterns

    def add_api_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
        **limits: Unpack[LimitOptions],
    ) -> None:
        """Serve `endpoint` at prefix + `path`, after the router's and then these dependencies."""
        check_route_options(limits, "APIRouter.add_api_websocket_route")
        route = APIWebSocketRoute(
            self.prefix + path,
            endpoint,
            name=name,
            dependencies=[*self.dependencies, *(dependencies or [])],
            dependency_overrides_provider=self.dependency_overrides_provider,
            limits=self.limits | Limits(limits),
        )
        if self.dependency_overrides_provider is not None:
            route.check()
        self.routes.append(route)

    def websocket(
        self,
        path: str,
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
        **limits: Unpack[LimitOptions],
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a WebSocket; the function itself stays as it is."""
        check_route_options(limits, "APIRouter.websocket")

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            self.add_api_websocket_route(path, func, name, dependencies=dependencies, **limits)
            return func

        return decorator

    def add_websocket_route(self, path: str, endpoint: Callable[..., Any], name: str | None = None) -> None:
        self.routes.append(WebSocketRoute(path, endpoint, name=name, limits=self.limits))

    def websocket_route(
        self, path: str, name: str | None = None
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function that takes the WebSocket and nothing else (Starlette)."""

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
        """Serve the routes of `router` here, those it gets later too; HTTP's options are ignored."""
        foreign.refuse(router, "include_router()")
        foreign.refuse_dependencies(dependencies or [], "dependencies= of include_router()")
        if router is self:
            raise AssertionError(
                "Cannot include the same APIRouter instance into itself. "
                "Did you mean to include a different router?"
            )
        if any(inner is self for inner in _routers_in(router)):
            raise AssertionError(
                "Cannot include an APIRouter instance that already includes this router. "
                "Did you mean to include a different router?"
            )
        http_options(extra, INCLUDE_OPTIONS, "include_router")
        check_prefix(prefix)
        for route in [] if prefix else flatten(router.routes):
            if getattr(route, "path", None) == "":
                name = getattr(route, "name", "unknown")
                raise FastAPIError(f"Prefix and path cannot be both empty (path operation: {name})")
        included = IncludedRouter(router, self, prefix, dependencies or [])
        if self.dependency_overrides_provider is not None:
            for route in included.routes:
                if isinstance(route, APIWebSocketRoute):
                    route.check()
        self.routes.append(included)
        for event_type, handlers in (("startup", router.on_startup), ("shutdown", router.on_shutdown)):
            for handler in handlers:
                self.add_event_handler(event_type, handler)
        self.has_lifespan = self.has_lifespan or router.has_lifespan
        self.lifespan_context = merged(self.lifespan_context, router.lifespan_context)

    def add_event_handler(self, event_type: str, func: Callable[[], Any]) -> None:
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


for _class, _names in ((Router, ("add_route",)), (APIRouter, HTTP_ONLY)):
    for _name in _names:
        setattr(_class, _name, HTTPOnly(_name))


def check_prefix(prefix: str) -> None:
    if prefix and not prefix.startswith("/"):
        raise AssertionError("A path prefix must start with '/'")
    if prefix.endswith("/"):
        raise AssertionError("A path prefix must not end with '/', as the routes will start with '/'")


def flatten(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes in the order in which they are tried, included routers resolved."""
    for route in routes:
        if isinstance(route, IncludedRouter):
            yield from route.routes
        else:
            yield route


def _routers_in(router: APIRouter) -> Iterator[APIRouter]:
    for route in router.routes:
        if isinstance(route, IncludedRouter):
            yield route.original_router
            yield from _routers_in(route.original_router)


def _first_url(routes: Iterable[BaseRoute], name: str, path_params: dict[str, Any]) -> URLPath:
    for route in routes:
        try:
            return route.url_path_for(name, **path_params)
        except Exception as exc:
            # The routes of a mounted application may be Starlette's.
            if not foreign.means(exc, NoMatchFound):
                raise
    raise NoMatchFound(name, path_params)


def _child_url(parent: Mount | Host, name: str, path_params: dict[str, Any]) -> URLPath | None:
    """The URL of a route below a mount or host, whose names are "parent:child" if the parent has one."""
    child = name if parent.name is None else name.removeprefix(parent.name + ":")
    with contextlib.suppress(NoMatchFound):
        return _first_url(parent.routes, child, path_params)
    return None


def _watched(scope: Scope, send: Send) -> Send:
    session: Session | None = scope.get(SESSION)
    return session.watch(send) if session else send


async def _run_foreign(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an application that may speak ASGI by itself."""
    if scope["type"] == "websocket":
        await run_router(app, scope, receive, _watched(scope, send))
    else:
        await app(scope, receive, send)


async def run_router(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an application; a path that Channels' `URLRouter` in it does not have is refused as one of ours."""
    try:
        await app(scope, receive, send)
    except ValueError as exc:
        if not is_unrouted(exc):
            raise
        await _refuse_path(scope, receive, send)


def is_unrouted(exc: ValueError) -> bool:
    """Whether Channels' `URLRouter` itself has raised this, which no consumer below it may have done."""
    frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__") == "channels.routing"


async def _refuse_path(scope: Scope, receive: Receive, send: Send, hint: str = "") -> None:
    """Refuse a path that nobody has: HTTP 403, and one line in the log."""
    # The client chose the path: escaped and cut, it cannot forge a line.
    logger.warning("No WebSocket route for %.200r%s", scope["path"], hint)
    await WebSocketClose()(scope, receive, _watched(scope, send))
