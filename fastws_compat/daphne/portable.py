"""What is left to do for a daphne that is not known: close codes it would refuse, and the lifespan."""

from __future__ import annotations

import asyncio
from typing import Any

from fastws_compat import conf
from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send

# 4000 to 4999 are for private use (RFC 6455, 7.4.2); 1001 and 1012 mean the same to a client: come back.
CODES = {1001: 4012} | {code: code + 3000 for code in (1002, 1003, *range(1007, 1015))}


def portable(application: ASGIApp) -> ASGIApp:
    """`application`, closing with 4008 where it says 1008, and so on."""

    async def mapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_mapped(message: Message) -> None:
            if message["type"] == "websocket.close" and message.get("code") in CODES:
                message = {**message, "code": CODES[message["code"]]}
            await send(message)

        await application(scope, receive, send_mapped if scope["type"] == "websocket" else send)

    return mapped


def with_lifespan(application: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    """`application`, started before its first socket; HTTP does not wait for it."""
    started: list[asyncio.Task[bool]] = []

    async def begun(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if not started:
                started.append(asyncio.ensure_future(lifespan.startup()))
            if not await asyncio.shield(started[0]):
                await send({"type": "websocket.close", "code": 1011})
                return
            scope["state"] = dict(lifespan.state)
        await application(scope, receive, send)

    return begun


def server_class() -> type[Any]:
    """A stock server that runs its application so."""
    import daphne.server
    from twisted.internet.defer import Deferred, maybeDeferred

    class Server(daphne.server.Server):  # type: ignore[misc]
        def __init__(self, application: ASGIApp, *args: Any, **kwargs: Any) -> None:
            self.lifespan = Lifespan(application)
            super().__init__(portable(with_lifespan(application, self.lifespan)), *args, **kwargs)

        def kill_all_applications(self) -> Any:
            killed = maybeDeferred(super().kill_all_applications)
            return killed.addBoth(lambda _: Deferred.fromFuture(asyncio.ensure_future(self._goodbye())))

        async def _goodbye(self) -> None:
            await self.lifespan.shutdown(conf.get("SHUTDOWN_GRACE"))

    return Server
