"""The portable mode for an untested daphne: close codes that it would reject, and the lifespan.

A stock daphne gets the close codes too.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastws_compat import conf
from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.modules import loaded
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send

# 4000 to 4999 are for private use (RFC 6455, 7.4.2). 1001 and 1012 both tell a client to connect again.
CODES = {1001: 4012} | {code: code + 3000 for code in (1002, 1003, *range(1007, 1015))}


def portable(application: ASGIApp) -> ASGIApp:
    """`application` with its close codes mapped: 1008 becomes 4008, and so on."""

    async def mapped(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope, receive, with_codes(send) if scope["type"] == "websocket" else send)

    return mapped


def with_codes(send: Send) -> Send:
    """`send` with its close codes mapped."""

    async def send_mapped(message: Message) -> None:
        if message["type"] == "websocket.close" and message.get("code") in CODES:
            message = {**message, "code": CODES[message["code"]]}
        await send(message)

    return send_mapped


def is_stock(send: Send) -> bool:
    """Whether `send` is that of a stock daphne, which raises for these codes and leaves the socket open."""
    daphne, function = loaded("daphne.server"), getattr(send, "func", None)
    return daphne is not None and isinstance(getattr(function, "__self__", None), daphne.Server)


def with_lifespan(application: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    """`application` with its lifespan started before the first socket; HTTP does not wait for that."""
    started: list[asyncio.Task[bool]] = []

    async def with_startup(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if not started:
                started.append(asyncio.ensure_future(lifespan.startup()))
            if not await asyncio.shield(started[0]):
                await send({"type": "websocket.close", "code": 1011})
                return
            scope["state"] = dict(lifespan.state)
        await application(scope, receive, send)

    return with_startup


def server_class() -> type[Any]:
    """A stock server that runs its application in this way."""
    import daphne.server
    from twisted.internet.defer import Deferred, maybeDeferred

    class Server(daphne.server.Server):  # type: ignore[misc]
        def __init__(self, application: ASGIApp, *args: Any, **kwargs: Any) -> None:
            self.lifespan = Lifespan(application)
            super().__init__(portable(with_lifespan(application, self.lifespan)), *args, **kwargs)

        def kill_all_applications(self) -> Any:
            killed = maybeDeferred(super().kill_all_applications)
            return killed.addBoth(lambda _: Deferred.fromFuture(asyncio.ensure_future(self._end_lifespan())))

        async def _end_lifespan(self) -> None:
            await self.lifespan.shutdown(conf.get("SHUTDOWN_GRACE"))

    return Server
