"""The application: a router with dependency overrides, exception handlers, middleware and a lifespan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from fastws_compat import daphne
from fastws_compat.connections.lifecycle import Session, serve, with_handlers
from fastws_compat.connections.states import SESSION
from fastws_compat.datastructures import State, URLPath
from fastws_compat.dependencies.annotations import name_of
from fastws_compat.dependencies.signature import refuse_foreign
from fastws_compat.exception_handlers import DEFAULT_HANDLERS, STARLETTE_HANDLERS, run
from fastws_compat.exceptions import DeclarationError
from fastws_compat.limits import split
from fastws_compat.middleware import Middleware
from fastws_compat.params import Depends
from fastws_compat.porting import foreign
from fastws_compat.porting.http_only import APP_OPTIONS, HTTP_ONLY, HTTPOnly
from fastws_compat.routing.api_router import APIRouter
from fastws_compat.routing.options import RouteOptions, check_path, check_route_options, router_options
from fastws_compat.routing.routers import Router
from fastws_compat.routing.routes import BaseRoute, wrap
from fastws_compat.types import ASGIApp, DecoratedCallable, ExceptionHandler, Lifespan, Receive, Scope, Send

if TYPE_CHECKING:
    from django.urls import URLPattern


class Starlette:
    """Starlette's application class, for WebSockets only: routes, middleware and handlers, no dependencies.

    `max_body_size` is accepted and has no effect: only HTTP requests have bodies.
    """

    #: The keys of the handler for every exception that has no other handler, as in Starlette.
    CATCH_ALL: ClassVar[tuple[Any, ...]] = (500, Exception)
    #: Handlers that every application has.
    DEFAULT_HANDLERS: ClassVar[Mapping[Any, ExceptionHandler]] = STARLETTE_HANDLERS

    #: The path below which a proxy serves the application; empty if the server says it.
    root_path = ""
    #: The router that has the application's routes.
    router: Router

    def __init__(
        self,
        debug: bool = False,
        routes: Sequence[BaseRoute] | None = None,
        middleware: Sequence[Middleware] | None = None,
        exception_handlers: Mapping[Any, ExceptionHandler] | None = None,
        lifespan: Lifespan[Any] | None = None,
        *,
        max_body_size: int | None = None,
    ) -> None:
        self.router = Router(routes, lifespan=lifespan)
        #: Accepted for Starlette's sake; it has no effect.
        self.max_body_size = max_body_size
        self._begin(debug, middleware, exception_handlers)

    def _begin(
        self,
        debug: bool,
        middleware: Sequence[Middleware] | None,
        exception_handlers: Mapping[Any, ExceptionHandler] | None,
    ) -> None:
        #: Accepted for Starlette's sake; Django's `DEBUG` applies.
        self.debug = debug
        #: Data for the whole application.
        self.state = State()
        #: The handlers by exception class or status.
        self.exception_handlers = dict(exception_handlers or {})
        _check_handlers(self.exception_handlers)
        #: The middleware that was added, the outermost first.
        self.user_middleware = list(middleware or [])
        for item in self.user_middleware:
            foreign.refuse(item, "middleware=")
        #: The middleware around the router; None until the first connection.
        self.middleware_stack: ASGIApp | None = None

    @property
    def _asgi_single_callable(self) -> bool:
        """True: this is not an ASGI 2 application.

        daphne's command line reads this (through asgiref) after it has loaded the application and before it
        creates its server. For an application without Django, this is the moment to complete daphne.
        """
        daphne.install()
        return True

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes, in the order in which they are tried."""
        return self.router.routes

    def match(self, scope: Scope) -> tuple[BaseRoute, Scope] | None:
        """The route that takes a connection, and its additions to the scope."""
        root_path = self.root_path or scope.get("root_path", "")
        return self.router.match({**scope, "root_path": root_path})

    def serves(self, scope: Scope) -> bool:
        """Whether a route of the application takes this connection."""
        return self.match(scope) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        if self.root_path:
            scope["root_path"] = self.root_path
        if scope["type"] == "websocket" and SESSION not in scope:
            # Middleware may send messages itself; without any, only the library's WebSocket sends.
            stack = self.middleware_stack or self._first
            await serve(stack, scope, receive, send, watched=bool(self.user_middleware))
        else:
            await (self.middleware_stack or self._first)(scope, receive, send)

    async def _first(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Build the stack for the first connection; if a constructor raises, its session closes it."""
        self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """The user's middleware, the last added outermost, around the exception handlers and the router.

        The catch-all handler, if there is one, is outside all of them.
        """
        _check_handlers(self.exception_handlers)
        all_handlers = {**self.DEFAULT_HANDLERS, **self.exception_handlers}
        handlers = {key: value for key, value in all_handlers.items() if key not in self.CATCH_ALL}
        stack = wrap(with_handlers(self.router.target, handlers), self.user_middleware)
        for key in self.CATCH_ALL:
            if key in self.exception_handlers:
                return catching(stack, self.exception_handlers[key])
        return stack

    def add_middleware(self, middleware_class: Any, *args: Any, **kwargs: Any) -> None:
        """Add an ASGI middleware around those added before; RuntimeError once the application has started."""
        if self.middleware_stack is not None:
            raise RuntimeError("Cannot add middleware after an application has started")
        self.user_middleware.insert(0, Middleware(middleware_class, *args, **kwargs))

    def add_exception_handler(
        self, exc_class_or_status_code: int | type[Exception], handler: ExceptionHandler
    ) -> None:
        """Register a handler for a class of exceptions or for a status code."""
        _check_handlers({exc_class_or_status_code: handler})
        self.exception_handlers[exc_class_or_status_code] = handler

    def mount(self, path: str, app: ASGIApp, name: str | None = None) -> None:
        """Serve another ASGI application below `path`; it keeps its own handlers and overrides."""
        self.router.mount(path, app, name)

    def host(self, host: str, app: ASGIApp, name: str | None = None) -> None:
        """Serve another ASGI application for a host name."""
        self.router.host(host, app, name)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path of the route with this name and exactly these parameters; NoMatchFound without one."""
        return self.router.url_path_for(name, **path_params)


class FastAPI(Starlette):
    """FastAPI's application class, for WebSockets only; HTTP stays with Django.

    Options that only matter for HTTP (`docs_url`, `openapi_url` ...) are accepted and kept in `extra`.
    """

    #: The router that has the application's routes.
    router: APIRouter

    def __init__(
        self,
        *,
        debug: bool = False,
        routes: Sequence[BaseRoute] | None = None,
        title: str = "FastAPI",
        summary: str | None = None,
        description: str = "",
        version: str = "0.1.0",
        dependencies: Sequence[Depends] | None = None,
        redirect_slashes: bool = True,
        middleware: Sequence[Middleware] | None = None,
        exception_handlers: Mapping[Any, ExceptionHandler] | None = None,
        on_startup: Sequence[Callable[[], Any]] | None = None,
        on_shutdown: Sequence[Callable[[], Any]] | None = None,
        lifespan: Lifespan[Any] | None = None,
        root_path: str = "",
        **extra: Any,
    ) -> None:
        self._begin(debug, middleware, {**DEFAULT_HANDLERS, **(exception_handlers or {})})
        #: The title in documents about the sockets.
        self.title = title
        #: One line about the application, in documents.
        self.summary = summary
        #: More about the application, in documents.
        self.description = description
        #: The application's own version, in documents.
        self.version = version
        self.root_path = root_path
        limits, extra = split(extra)
        #: The options for HTTP and for documents, as they were passed.
        self.extra = router_options(extra, APP_OPTIONS, "FastAPI.__init__")
        #: The replacements of dependencies, by the dependency, for tests.
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self.router = APIRouter(
            routes=routes,
            redirect_slashes=redirect_slashes,
            dependencies=dependencies,
            dependency_overrides_provider=self,
            on_startup=on_startup,
            on_shutdown=on_shutdown,
            lifespan=lifespan,
            deprecated=extra.get("deprecated"),
            include_in_schema=extra.get("include_in_schema", True),
            **limits,
        )

    @property
    def websocket_urlpatterns(self) -> list[URLPattern]:
        """The routes as a list for Channels' `URLRouter`, which may hold other consumers too."""
        return self.router.websocket_urlpatterns

    def exception_handler(
        self, exc_class_or_status_code: int | type[Exception]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate `handler(websocket, exc)` for an HTTPException status or an exception class."""

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            self.add_exception_handler(exc_class_or_status_code, func)
            return func

        return decorator

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
        check_route_options(options, "FastAPI.websocket")

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            self.add_api_websocket_route(path, func, name, dependencies=dependencies, **options)
            return func

        return decorator

    def add_api_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
        **options: Unpack[RouteOptions],
    ) -> None:
        """Add an endpoint without the decorator."""
        check_route_options(options, "FastAPI.add_api_websocket_route")
        self.router.add_api_websocket_route(path, endpoint, name, dependencies=dependencies, **options)

    def websocket_route(
        self, path: str, name: str | None = None
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function that takes the WebSocket and nothing else (Starlette)."""
        return self.router.websocket_route(path, name)

    def include_router(
        self,
        router: APIRouter,
        *,
        prefix: str = "",
        dependencies: Sequence[Depends] | None = None,
        **extra: Any,
    ) -> None:
        """Serve the routes of `router`, including those added later; options for HTTP are ignored."""
        self.router.include_router(router, prefix=prefix, dependencies=dependencies, **extra)

    def on_event(self, event_type: str) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function to run at "startup" or "shutdown"; `lifespan` is the newer way."""
        return self.router.on_event(event_type)


for _class, _names in ((Starlette, ("add_route",)), (FastAPI, (*HTTP_ONLY, "middleware", "openapi"))):
    for _name in _names:
        setattr(_class, _name, HTTPOnly(_name))


def catching(app: ASGIApp, handler: ExceptionHandler) -> ASGIApp:
    """`app`, with `handler` called for every exception that leaves it."""

    async def caught(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as exc:
            session: Session | None = scope.get(SESSION)
            if session is None or session.is_normal_end(exc):
                raise
            await run(handler, session.socket(receive, send), foreign.twin(exc) or exc)

    return caught


def _check_handlers(handlers: Mapping[Any, ExceptionHandler]) -> None:
    for key, handler in handlers.items():
        foreign.refuse(key, f"The registration of exception handler {name_of(handler)}")
        if not (isinstance(key, int) or (isinstance(key, type) and issubclass(key, Exception))):
            raise DeclarationError(
                f"Exception handler {name_of(handler)} is registered for {key!r}: name a class of exceptions "
                "or an HTTP status."
            )
        refuse_foreign(handler, f"Exception handler {name_of(handler)}")


# The application of the bare decorator `@websocket("/ws/...")`, and the default of `get_asgi_application()`.
default_app = FastAPI()
websocket = default_app.websocket
