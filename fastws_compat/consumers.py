"""Each route as a Channels consumer, for use with Channels' `URLRouter`, middleware and test tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from django.core.handlers.asgi import get_script_prefix
from django.urls import URLPattern, re_path, set_script_prefix

from fastws_compat import daphne, installed
from fastws_compat.types import Receive, Scope, Send

# The attribute of a URL pattern that holds its router; the system checks read it.
ROUTER_ATTRIBUTE = "fastws_router"


class ConsumedRoute(Protocol):
    """What a consumer needs from its route."""

    endpoint: Callable[..., Any]

    async def enter(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class PatternRoute(Protocol):
    """What a URL pattern needs from its route."""

    @property
    def name(self) -> str | None: ...

    @property
    def url_regex(self) -> str: ...

    def entry(self, owner: Any) -> Callable[..., Any]: ...


class RouteConsumer(AsyncConsumer):  # type: ignore[misc]
    """The consumer of one route.

    Channels' own `__call__` waits for a handler before it takes the next message, so an endpoint awaited in
    a handler would never receive anything. It also opens a channel for a socket that may not need one.
    """

    #: The route whose endpoint the consumer calls.
    route: ClassVar[ConsumedRoute]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.base_send = send
        set_script_prefix(get_script_prefix(scope))  # for `reverse()`, as Django's own handler does
        await self.route.enter(scope, receive, send)

    @property
    def channel_layer(self) -> Any:
        """The channel layer of the consumer's alias; None if there is none."""
        return get_channel_layer(self.channel_layer_alias)


def consumer_class(route: ConsumedRoute) -> type[RouteConsumer]:
    """The consumer of `route`, with the name and the docstring of its endpoint."""
    endpoint = route.endpoint
    return type(
        getattr(endpoint, "__name__", type(endpoint).__name__),
        (RouteConsumer,),
        {
            "route": route,
            "__doc__": endpoint.__doc__,
            "__module__": getattr(endpoint, "__module__", type(endpoint).__module__),
        },
    )


def urlpatterns(router: object, routes: Iterable[PatternRoute], owner: Any) -> list[URLPattern]:
    """The routes of `router` as entries for Channels' `URLRouter`; `owner` is the application they run in."""
    daphne.install()  # a project with its own ASGI application may not have called it yet
    installed.warn_if_absent()
    return [_urlpattern(router, route, owner) for route in routes]


def _urlpattern(router: object, route: PatternRoute, owner: Any) -> URLPattern:
    # Django matches paths without their leading slash.
    regex = route.url_regex.replace("^/", "^", 1)
    pattern = re_path(regex, route.entry(owner), name=route.name)
    vars(pattern)[ROUTER_ATTRIBUTE] = router
    return pattern
