"""Routers, and the routes that lead to other applications: mounts and hosts (Starlette)."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from fastws_compat import conf
from fastws_compat.connections.lifecycle import serve_alone
from fastws_compat.connections.registry import drain, start
from fastws_compat.connections.states import MATCHED_ROUTE, ROUTE_PREFIX, SESSION
from fastws_compat.datastructures import Headers, URLPath, parse_host_header
from fastws_compat.dependencies.signature import refuse_foreign
from fastws_compat.middleware import Middleware
from fastws_compat.params import Depends
from fastws_compat.porting.http_only import HTTPOnly
from fastws_compat.requests import get_route_path
from fastws_compat.routing.hints import nearest
from fastws_compat.routing.included import IncludedRouter, SourceRouter, Version
from fastws_compat.routing.index import Index, Routes
from fastws_compat.routing.lifespans import as_context
from fastws_compat.routing.paths import compile_path, convert, replace_params
from fastws_compat.routing.routes import (
    FULL,
    BaseRoute,
    Match,
    NoMatchFound,
    WebSocketRoute,
    enter,
    first_url,
    flatten,
    watched,
    wrap,
)
from fastws_compat.routing.unmatched import refuse, refuse_path, run_router
from fastws_compat.types import ASGIApp, Lifespan, Receive, Scope, Send


class Mount(BaseRoute):
    """An ASGI application, or routes, below a path.

    `max_body_size` is accepted and has no effect: only HTTP requests have bodies.
    """

    def __init__(
        self,
        path: str,
        app: ASGIApp | None = None,
        routes: Sequence[BaseRoute] | None = None,
        name: str | None = None,
        *,
        middleware: Sequence[Middleware] | None = None,
        max_body_size: int | None = None,
    ) -> None:
        if path and not path.startswith("/"):
            raise AssertionError("Routed paths must start with '/'")
        if app is None and routes is None:
            raise AssertionError("Either 'app=...', or 'routes=' must be specified")
        #: The application that was mounted.
        self.base_app: Any = Router(routes) if app is None else app
        #: The same with the middleware of the mount.
        self.app = wrap(self.base_app, middleware)
        self.name = name
        self._compile(path)

    def _compile(self, path: str) -> None:
        self.path = path.rstrip("/")
        self.path_regex, self.path_format, self.param_convertors = compile_path(self.path + "/{path:path}")

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the mounted application; empty if it does not list any."""
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
        scope[ROUTE_PREFIX] = scope.get(ROUTE_PREFIX, "") + self.path
        await _run_mounted(self.app, scope, receive, send)

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        mount = copy.copy(self)
        mount._compile(prefix + self.path)
        return mount

    @property
    def url_regex(self) -> str:  # type: ignore[override]
        return self.path_regex.pattern

    def entry(self, owner: Any) -> Callable[..., Any]:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            params = {
                name: self.param_convertors[name].convert(value) if isinstance(value, str) else value
                for name, value in scope["url_route"]["kwargs"].items()
                if name in self.param_convertors
            }
            rest = "/" + params.pop("path")
            matched = get_route_path(scope).removesuffix(rest)
            await enter(owner, self, self._child_scope(scope, params, matched), scope, receive, send)

        return application

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mount) and self.path == other.path and self.app == other.app

    __hash__ = BaseRoute.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(path={self.path!r}, name={self.name or ''!r}, app={self.app!r})"


class Host(BaseRoute):
    """An ASGI application for a host name; the port does not matter."""

    url_regex = "^"

    def __init__(self, host: str, app: ASGIApp, name: str | None = None) -> None:
        if host.startswith("/"):
            raise AssertionError("Host must not start with '/'")
        #: The host as it was declared.
        self.host = host
        #: The application for the host.
        self.app: Any = app
        self.name = name
        #: The host, compiled: the regular expression, the format for URLs, and the convertors by name.
        self.host_regex, self.host_format, self.param_convertors = compile_path(host)

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the application; empty if it does not list any."""
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
        scope[ROUTE_PREFIX] = scope.get(ROUTE_PREFIX, "") + self.host
        await _run_mounted(self.app, scope, receive, send)

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        app = Router([Mount(prefix, self.app)]) if prefix else self.app
        return Host(self.host, app, self.name)

    def entry(self, owner: Any) -> Callable[..., Any]:
        from django.urls import Resolver404

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            match, child_scope = self.matches(scope)
            if match is Match.NONE:
                raise Resolver404  # URLRouter then tries its next entry
            await enter(owner, self, child_scope, scope, receive, send)

        return application

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and self.host == other.host and self.app == other.app

    __hash__ = BaseRoute.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(host={self.host!r}, name={self.name or ''!r}, app={self.app!r})"


def _indexed_path(route: BaseRoute) -> str:
    """The path under which the index holds a route; "{}", any path, for a route with its own `matches`."""
    matches = type(route).matches
    if matches is Mount.matches:
        return f"{cast(Mount, route).path}/{{path}}"
    return cast(WebSocketRoute, route).path if matches is WebSocketRoute.matches else "{}"


class Router:
    """Passes a connection to the first of its routes that matches (Starlette).

    `max_body_size` is accepted and has no effect: only HTTP requests have bodies.
    """

    add_route = HTTPOnly("add_route")

    def __init__(
        self,
        routes: Sequence[BaseRoute] | None = None,
        redirect_slashes: bool = True,
        default: ASGIApp | None = None,
        lifespan: Lifespan[Any] | None = None,
        *,
        middleware: Sequence[Middleware] | None = None,
        max_body_size: int | None = None,
    ) -> None:
        if lifespan is not None:
            refuse_foreign(lifespan, "lifespan=")
        self._routes = Routes(routes or [])
        # The included routers, and the count of changes at which they were listed.
        self._included: list[SourceRouter] = []
        self._listed_at = -1
        # The index, and the version of the routes that it holds.
        self._index = Index([], _indexed_path)
        self._indexed: Version = (-1,)
        #: Whether an HTTP request to a mount without the final slash is redirected.
        self.redirect_slashes = redirect_slashes
        #: Whether the user gave a lifespan; `lifespan_context` is always set.
        self.has_lifespan = lifespan is not None
        #: The application that serves what no route takes.
        self.default: ASGIApp = self.not_found if default is None else default
        #: Returns the context manager that runs around the server's life.
        self.lifespan_context: Callable[[Any], AbstractAsyncContextManager[Any]] = as_context(lifespan)
        #: The router with its own middleware around it.
        self.middleware_stack = wrap(self.app, middleware)
        # Connections may go straight to the routes: there is no middleware and no method of a subclass.
        self._is_plain = not middleware and all(
            getattr(type(self), name) is getattr(Router, name) for name in ("__call__", "app")
        )
        #: Gives the application for a connection. Calling it directly saves the frames of the router itself.
        self.target: Callable[[Scope], ASGIApp] = self._target if self._is_plain else self._whole

    @property
    def routes(self) -> Routes:
        """The routes in the order in which they are tried; the list may be changed."""
        return self._routes

    @routes.setter
    def routes(self, routes: Iterable[BaseRoute]) -> None:
        changes = self._routes.changes + 1
        self._routes = Routes(routes)
        self._routes.changes = changes

    @property
    def version(self) -> Version:
        """A value that changes with the routes, those of included routers too."""
        changes = self._routes.changes
        if changes != self._listed_at:
            routes = self._routes
            self._included = [route.original_router for route in routes if isinstance(route, IncludedRouter)]
            self._listed_at = changes
        return (changes, *[router.version for router in self._included])

    def _refresh(self) -> None:
        """Index the routes again if any of them has changed."""
        version = self.version
        if version != self._indexed:
            self._index = Index(flatten(self.routes), _indexed_path)
            self._indexed = version

    def match(self, scope: Scope) -> tuple[BaseRoute, Scope] | None:
        """The first route that takes the connection, and its additions to the scope."""
        if self._included or self._routes.changes != self._indexed[0]:
            self._refresh()
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        for _, route in self._index.candidates(path):
            match, child_scope = route.matches(scope)
            if match is FULL:
                return route, child_scope
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and SESSION not in scope:
            await serve_alone(self.target, scope, receive, send, watched=not self._is_plain)
        else:
            await self.middleware_stack(scope, receive, send)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection without the router's middleware."""
        await self._target(scope)(scope, receive, send)

    def _whole(self, scope: Scope) -> ASGIApp:
        """The router itself, with its middleware and with what a subclass overrides."""
        return self

    def _target(self, scope: Scope) -> ASGIApp:
        """What serves a connection: a route, the default, or the lifespan."""
        scope.setdefault("router", self)
        if scope["type"] == "lifespan":
            return self.lifespan
        found = scope.pop(MATCHED_ROUTE, None) or self.match(scope)
        if found is None:
            return self.default
        route, child_scope = found
        scope.update(child_scope)
        return route.handle

    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The default application: refuses a WebSocket with 403 and an HTTP request with 404."""
        if scope["type"] == "websocket":
            await refuse_path(scope, receive, watched(scope, send), self.hint(scope))
        else:
            await refuse(scope, receive, send)

    def hint(self, scope: Scope) -> str:
        """With `DEBUG` on, the route whose path is most like the one requested."""
        if not conf.debug():
            return ""
        paths = [route.path for route in flatten(self.routes) if isinstance(route, WebSocketRoute | Mount)]
        path = get_route_path(scope)
        near = nearest(path[:200], paths)
        mount = scope["path"].removesuffix(path)[:200]
        return "" if near is None else f": did you mean {mount + near!r}?"

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan context between the server's startup and shutdown messages."""
        started = False
        await receive()
        start()
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
        return first_url(self.routes, name, path_params)

    def mount(self, path: str, app: ASGIApp, name: str | None = None) -> None:
        """Add an ASGI application below a path."""
        self.routes.append(Mount(path, app=app, name=name))

    def host(self, host: str, app: ASGIApp, name: str | None = None) -> None:
        """Add an ASGI application for a host name."""
        self.routes.append(Host(host, app=app, name=name))

    def add_websocket_route(self, path: str, endpoint: Callable[..., Any], name: str | None = None) -> None:
        """Serve `endpoint(websocket)`; the router's prefix and dependencies do not apply (Starlette)."""
        self.routes.append(WebSocketRoute(path, endpoint, name=name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Router) and self.routes == other.routes

    __hash__ = object.__hash__


def _child_url(parent: Mount | Host, name: str, path_params: dict[str, Any]) -> URLPath | None:
    """The URL of a route below a mount or host; its name is "parent:child" if the parent has a name."""
    child = name if parent.name is None else name.removeprefix(parent.name + ":")
    with contextlib.suppress(NoMatchFound):
        return first_url(parent.routes, child, path_params)
    return None


async def _run_mounted(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an application that may answer the connection without the library's WebSocket."""
    if scope["type"] == "websocket":
        await run_router(app, scope, receive, watched(scope, send))
    else:
        await app(scope, receive, send)
