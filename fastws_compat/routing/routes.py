"""A route is a path, an endpoint and the plan that is compiled from its signature."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastws_compat.connections.lifecycle import Session, open_socket, serve_alone
from fastws_compat.connections.states import MATCHED_ROUTE, SESSION
from fastws_compat.datastructures import URLPath
from fastws_compat.dependencies.annotations import is_subclass, loaded, name_of
from fastws_compat.dependencies.compile import Overrides, check_paths, compile_plan
from fastws_compat.dependencies.model import Plan
from fastws_compat.dependencies.run import run_endpoint
from fastws_compat.dependencies.signature import annotated_parameters, kind_of, refuse_foreign
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exception_handlers import handle
from fastws_compat.exceptions import DeclarationError, EndpointContext
from fastws_compat.limits import UNCOUNTED, Limits, limits_of
from fastws_compat.middleware import Middleware
from fastws_compat.params import Depends, dependency_list
from fastws_compat.porting import foreign
from fastws_compat.requests import get_route_path
from fastws_compat.routing.options import Described, RouteOptions, has_message_options
from fastws_compat.routing.paths import changes_text, compile_path, convert, replace_params
from fastws_compat.routing.unmatched import refuse
from fastws_compat.types import ASGIApp, Receive, Scope, Send
from fastws_compat.websockets import WebSocket

if TYPE_CHECKING:
    from fastws_compat.consumers import RouteConsumer
    from fastws_compat.messages.contract import Contract
    from fastws_compat.messages.routes import RouteMessages


class NoMatchFound(Exception):
    """No route has this name and exactly these parameters."""

    def __init__(self, name: str, path_params: dict[str, Any]) -> None:
        super().__init__(f'No route exists for name "{name}" and params "{", ".join(path_params)}".')


class Match(enum.Enum):
    """How well a route fits a connection."""

    #: The route does not take the connection.
    NONE = 0
    #: Only the path fits; no WebSocket route returns it.
    PARTIAL = 1
    #: The route takes the connection.
    FULL = 2


FULL, NONE = Match.FULL, Match.NONE


class BaseRoute:
    """What a router needs from its entries."""

    #: The name for `url_path_for`; None if there is none.
    name: str | None
    #: The regular expression for Channels' `URLRouter`; the path starts with a slash here.
    url_regex: str

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """FULL and the additions to the scope if the route takes the connection, else NONE."""
        raise NotImplementedError

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path of the route with this name and these parameters; NoMatchFound for any other."""
        raise NotImplementedError

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection that `matches` has taken."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection without a router: a route alone is an ASGI application, too."""
        match, child_scope = self.matches(scope)
        if match is Match.NONE:
            await refuse(scope, receive, send)
            return
        scope.update(child_scope)
        await handle_alone(self, scope, receive, send)

    def expanded(self) -> Sequence[BaseRoute]:
        """The routes that this entry of a router stands for: itself, or those of an included router."""
        return (self,)

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        """The route as it is served by a router that includes it with a prefix and dependencies.

        A class without this method is served only by the router that it was added to, as in FastAPI.
        """
        raise NotImplementedError

    def entry(self, owner: Any) -> Callable[..., Any]:
        """An ASGI application that serves this route alone, for Channels' `URLRouter`."""
        raise NotImplementedError


class WebSocketRoute(BaseRoute):
    """A path with a function that gets only the WebSocket, or with an ASGI application (Starlette)."""

    name: str

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        middleware: Sequence[Middleware] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._check_path(path)
        self._check_endpoint(endpoint)
        #: The limits of the route, with those of its routers.
        self.limits = limits or Limits()
        #: The path as it was declared.
        self.path = path
        #: The function, class or application that was declared.
        self.endpoint = endpoint
        self.name = name_of(endpoint) if name is None else name
        #: The middleware of this route.
        self.middleware = middleware
        #: The path, compiled: the regular expression, the format for URLs, and the convertors by name.
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self._converts = any(map(changes_text, self.param_convertors.values()))
        #: The ASGI application that serves the route, with its middleware.
        self.app: ASGIApp = wrap(self._application(), middleware)

    def _check_path(self, path: str) -> None:
        if not path.startswith("/"):
            raise AssertionError("Routed paths must start with '/'")

    def _check_endpoint(self, endpoint: Callable[..., Any]) -> None:
        """Raise DeclarationError for an endpoint that could never work."""
        for call in (endpoint, *_callbacks(endpoint)):
            refuse_foreign(call, f"WebSocket endpoint {name_of(endpoint)}")
            _refuse_typed(call)

    def _application(self) -> ASGIApp:
        endpoint = self.endpoint
        while isinstance(endpoint, functools.partial):
            endpoint = endpoint.func
        if inspect.isfunction(endpoint) or inspect.ismethod(endpoint):
            return websocket_session(self.endpoint)
        return self.endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "websocket":
            return NONE, {}
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        match = self.path_regex.match(path)
        if match is None:
            return NONE, {}
        params = convert(match, self.param_convertors) if self._converts else match.groupdict()
        return FULL, self.child_scope(scope, params)

    def child_scope(self, scope: Scope, params: dict[str, Any]) -> Scope:
        """The additions to the scope of a connection with these path parameters."""
        if outer := scope.get("path_params"):
            params = {**outer, **params}
        return {"endpoint": self.endpoint, "path_params": params, "route": self}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path of the route; NoMatchFound unless name and parameters are exactly its own."""
        if name != self.name or path_params.keys() != self.param_convertors.keys():
            raise NoMatchFound(name, path_params)
        path, _ = replace_params(self.path_format, self.param_convertors, path_params)
        return URLPath(path=path, protocol="websocket")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, watched(scope, send))

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        return WebSocketRoute(
            prefix + self.path,
            self.endpoint,
            name=self.name,
            middleware=self.middleware,
            limits=self.limits,
        )

    @property
    def url_regex(self) -> str:  # type: ignore[override]
        return self.path_regex.pattern

    def entry(self, owner: Any) -> Callable[..., Any]:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await self._enter(owner, scope, receive, send)

        return functools.update_wrapper(application, self.endpoint, updated=())

    async def _enter(self, owner: Any, scope: Scope, receive: Receive, send: Send) -> None:
        await enter(owner, self, self.child_scope(scope, self._routed_params(scope)), scope, receive, send)

    def _routed_params(self, scope: Scope) -> dict[str, Any]:
        """The path parameters that `URLRouter` found, converted; without a `URLRouter`, those of the path."""
        routed = scope.get("url_route")
        if routed is None:
            match = self.path_regex.match(get_route_path(scope))
            return convert(match, self.param_convertors) if match else {}
        return {
            name: self.param_convertors[name].convert(value)
            if isinstance(value, str) and name in self.param_convertors
            else value
            for name, value in routed["kwargs"].items()
        }

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WebSocketRoute) and self.path == other.path and self.endpoint == other.endpoint
        )

    __hash__ = BaseRoute.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(path={self.path!r}, name={self.name!r})"


class APIWebSocketRoute(WebSocketRoute, Described):
    """A path with an endpoint that has dependencies and typed parameters (FastAPI).

    `dependency_overrides_provider` is the application that the route belongs to, or any other object with
    `dependency_overrides`. Raises DeclarationError for an endpoint that could never work, and ValueError for
    a path that has the same parameter twice.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        dependencies: Sequence[Depends] | None = None,
        dependency_overrides_provider: Any | None = None,
        limits: Limits | None = None,
        options: RouteOptions | None = None,
    ) -> None:
        foreign.refuse(dependency_overrides_provider, "dependency_overrides_provider=")
        #: The application that the route belongs to, or None.
        self.owner = dependency_overrides_provider
        #: The dependencies that the endpoint does not name.
        self.dependencies = dependency_list(dependencies, f"dependencies= of {name_of(endpoint)}")
        super().__init__(path, endpoint, name=name, limits=limits)
        #: The options as they were declared.
        self.options = options or RouteOptions()
        self.describe(endpoint, self.options)
        #: The endpoint as a coroutine function.
        self.call = _as_coroutine(endpoint)
        #: The compiled dependencies and parameters.
        self.plan = compile_plan(self.call, self.path_format, self.dependencies)
        #: The types of the messages, compiled; None if the route declares none.
        self.messages: RouteMessages | None = None
        if self.plan.socket is not None or has_message_options(self.options):
            self._declare_messages()
        #: Where the endpoint is, for error messages.
        self.context: EndpointContext = {**source_of(endpoint), "path": self.path_format}

    def _check_path(self, path: str) -> None:
        """The path may be empty: the router that includes the route adds a prefix."""
        if path:
            super()._check_path(path)

    def _check_endpoint(self, endpoint: Callable[..., Any]) -> None:
        foreign.refuse_call(endpoint, f"WebSocket endpoint {name_of(endpoint)}")
        check_endpoint(endpoint)

    def _application(self) -> ASGIApp:
        return self.handle

    def _declare_messages(self) -> None:
        # Imported here: a process whose sockets have no types does not load their machinery.
        from fastws_compat.messages.routes import RouteMessages

        self.messages = RouteMessages(self, self.plan.socket, self.options)
        if self.plan.socket is not None:
            self.app = self.handle = functools.partial(self.messages.run, self)  # type: ignore[method-assign]

    @property
    def contract(self) -> Contract | None:
        """The types of the route's messages, if they are declared: by a TypedWebSocket or by options."""
        return None if self.messages is None else self.messages.contract(self.limits)

    @functools.cached_property
    def consumer(self) -> type[RouteConsumer]:
        """The route as a Channels consumer; made on first access, because that imports Django."""
        from fastws_compat.consumers import consumer_class

        return consumer_class(self)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Solve the dependencies and call the endpoint; the application's handlers get its exceptions."""
        websocket = open_socket(scope, receive, send)
        slot = self.limits.apply(websocket, scope.get(SESSION))
        try:
            plan = self.overridden_plan() if getattr(self.owner, "dependency_overrides", None) else self.plan
            if slot is UNCOUNTED:  # nearly always
                await run_endpoint(plan, websocket, self.context)
            else:
                with slot:
                    await run_endpoint(plan, websocket, self.context)
        except Exception as exc:
            if not await handle(websocket, exc):
                raise

    def overridden_plan(self) -> Plan:
        """The plan with the application's overrides."""
        overrides: Overrides = getattr(self.owner, "dependency_overrides", {})
        return compile_plan(self.call, self.path_format, self.dependencies, overrides)

    async def enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection that Channels has matched to this route, inside the route's application."""
        await self._enter(self.owner, scope, receive, send)

    def included(self, prefix: str, dependencies: Sequence[Depends], owner: Any) -> BaseRoute:
        route = APIWebSocketRoute(
            prefix + self.path,
            self.endpoint,
            name=self.name,
            dependencies=[*dependencies, *self.dependencies],
            dependency_overrides_provider=owner,
            limits=self.limits,
            options=self.options,
        )
        route.describe_as(self)
        return route

    def entry(self, owner: Any) -> Callable[..., Any]:
        application: Callable[..., Any] = self.consumer.as_asgi()
        return application

    def check(self) -> None:
        """Raise DeclarationError for mistakes that can only be found once the whole path is known."""
        if not self.path.startswith("/"):
            raise AssertionError(f"Routed paths must start with '/': {self.path!r} (endpoint {self.name})")
        check_paths(self.plan, self.endpoint, self.path_format)
        if self.messages is not None:
            self.messages.check()


def _refuse_typed(call: Callable[..., Any]) -> None:
    """Raise DeclarationError for a function whose messages nobody would validate."""
    typed = loaded("fastws_compat.messages.sockets", "TypedWebSocket")
    if not inspect.isroutine(call) or typed is None:
        return
    if any(is_subclass(annotation, typed) for _, annotation in annotated_parameters(call)):
        raise DeclarationError(
            f"WebSocket endpoint {name_of(call)} takes a TypedWebSocket, but a route of Starlette validates "
            "no messages: declare it with websocket() instead of websocket_route()."
        )


def websocket_session(func: Callable[[WebSocket], Awaitable[None]]) -> ASGIApp:
    """`func(websocket)` as an ASGI application (Starlette)."""
    refuse_foreign(func, f"WebSocket endpoint {name_of(func)}")
    _refuse_typed(func)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if SESSION not in scope:
            await serve_alone(lambda scope: app, scope, receive, send)
            return
        websocket = open_socket(scope, receive, send)
        slot = limits_of(scope).apply(websocket, scope.get(SESSION))
        try:
            with slot:
                await func(websocket)
        except Exception as exc:
            if not await handle(websocket, exc):
                raise

    return app


async def enter(
    owner: Any, route: BaseRoute, child_scope: Scope, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run a matched route inside the application `owner`, or alone if `owner` is not an application."""
    if callable(owner):
        scope[MATCHED_ROUTE] = (route, child_scope)
        await owner(scope, receive, send)
        return
    scope.update(child_scope)
    await handle_alone(route, scope, receive, send)


async def handle_alone(route: BaseRoute, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a route outside an application, in the current session or in a new one."""
    if SESSION in scope:
        await route.handle(scope, receive, send)
    else:
        await serve_alone(lambda scope: route.handle, scope, receive, send)


def check_endpoint(endpoint: Callable[..., Any]) -> None:
    """Raise DeclarationError for an endpoint that can neither be awaited nor be a stream."""
    name = name_of(endpoint)
    if inspect.isclass(endpoint):
        if hasattr(endpoint, "__await__") and not issubclass(endpoint, WebSocketEndpoint):
            return
        raise DeclarationError(
            f"WebSocket endpoint {name} is a class: declare it with websocket_route() and as a subclass of "
            "WebSocketEndpoint, or write an 'async def'."
        )
    kind = kind_of(endpoint)
    if kind in ("coroutine", "async_generator"):
        return
    if kind == "function":
        raise DeclarationError(
            f"WebSocket endpoint {name} is a plain 'def': write 'async def {name}', and put sync code into a "
            "dependency or run_in_threadpool()."
        )
    raise DeclarationError(f"WebSocket endpoint {name} is a generator: an endpoint has no 'yield'.")


def _as_coroutine(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint as a call that can be awaited: itself, unless it is a stream."""
    if kind_of(endpoint) != "async_generator":
        return endpoint
    from fastws_compat.messages.streams import as_coroutine

    return as_coroutine(endpoint)


def _callbacks(endpoint: Any) -> list[Callable[..., Any]]:
    """The methods of an endpoint class that are called with the WebSocket."""
    if not inspect.isclass(endpoint):
        return []
    methods = inspect.getmembers(endpoint, inspect.isfunction)
    return [method for name, method in methods if name.startswith("on_")]


def source_of(endpoint: Callable[..., Any]) -> EndpointContext:
    """Where the endpoint is defined, for error messages; empty if Python cannot find the source."""
    try:
        file, (_, line) = inspect.getfile(endpoint), inspect.getsourcelines(endpoint)
    except (OSError, TypeError):
        return EndpointContext()
    return EndpointContext(line=line, file=file, function=endpoint.__name__)


def wrap(app: ASGIApp, middleware: Iterable[Middleware] | None) -> ASGIApp:
    """`app` inside its middleware, the first outermost."""
    for item in reversed(list(middleware or [])):
        foreign.refuse(item, "middleware=")
        cls, args, kwargs = item
        app = cls(app, *args, **kwargs)
    return app


def watched(scope: Scope, send: Send) -> Send:
    """`send`, with the session recording what an application sends past the library's own WebSocket."""
    session: Session | None = scope.get(SESSION)
    return session.watch(send) if session else send


def flatten(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes in the order in which they are tried, with included routers replaced by their routes."""
    for route in routes:
        # The routes of a mounted application may be Starlette's.
        yield from route.expanded() if isinstance(route, BaseRoute) else (route,)


def first_url(routes: Iterable[BaseRoute], name: str, path_params: dict[str, Any]) -> URLPath:
    """The path from the first route that has this name and these parameters; NoMatchFound without one."""
    for route in routes:
        try:
            return route.url_path_for(name, **path_params)
        except Exception as exc:
            # The routes of a mounted application may be Starlette's.
            if not foreign.means(exc, NoMatchFound):
                raise
    raise NoMatchFound(name, path_params)
