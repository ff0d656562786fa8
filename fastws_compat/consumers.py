"""Each route as a Channels consumer, so that `URLRouter`, middleware and test tools see what they know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from django.core.handlers.asgi import get_script_prefix
from django.urls import set_script_prefix

from fastws_compat.types import Receive, Scope, Send

if TYPE_CHECKING:
    from fastws_compat.routing.routes import APIWebSocketRoute


class RouteConsumer(AsyncConsumer):  # type: ignore[misc]
    """The consumer of one route.

    Channels' own `__call__` waits for a handler before it takes the next message, so an endpoint awaited
    in one would never read anything; and it opens a channel for a socket that may need none.
    """

    route: ClassVar[APIWebSocketRoute]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.base_send = send
        set_script_prefix(get_script_prefix(scope))  # for `reverse()`, as Django's own handler does
        await self.route.enter(scope, receive, send)

    @property
    def channel_layer(self) -> Any:
        return get_channel_layer(self.channel_layer_alias)


def consumer_class(route: APIWebSocketRoute) -> type[RouteConsumer]:
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
