"""What is left to do for a daphne that is not known: close codes it would refuse."""

from __future__ import annotations

from typing import Any

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


def server_class() -> type[Any]:
    """A stock server that runs its application so."""
    import daphne.server

    class Server(daphne.server.Server):  # type: ignore[misc]
        def __init__(self, application: ASGIApp, *args: Any, **kwargs: Any) -> None:
            super().__init__(portable(application), *args, **kwargs)

    return Server
