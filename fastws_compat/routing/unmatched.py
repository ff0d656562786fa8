"""What happens to a connection whose path no route matches."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from fastws_compat.connections.outcomes import note_reason
from fastws_compat.connections.refusal import count
from fastws_compat.connections.states import SESSION
from fastws_compat.logger import logger
from fastws_compat.types import ASGIApp, Receive, Scope, Send
from fastws_compat.websockets import WebSocketClose


async def refuse_path(scope: Scope, receive: Receive, send: Send, hint: str = "") -> None:
    """Log the path of a WebSocket that has no route and refuse the handshake with 403."""
    # The client chose the path: escaped and truncated, it cannot forge a log line.
    logger.warning("No WebSocket route for %.200r%s", scope["path"], hint)
    note_reason(scope, "not_found")
    if SESSION not in scope and scope["type"] == "websocket":  # a `URLRouter` that no session has begun for
        count(scope, 403, "not_found")
    await refuse(scope, receive, send)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a connection: HTTP 403 for a WebSocket; 404 for an HTTP request, which is Django's to answer."""
    if scope["type"] == "websocket":
        await WebSocketClose()(scope, receive, send)
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"detail":"Not Found"}'})


async def run_router(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, hint: Callable[[Scope], str] | None = None
) -> None:
    """Run `app`; if a `URLRouter` of Channels in it has no route for the path, refuse the path as we do.

    `hint` returns the end of the log line.
    """
    __tracebackhide__ = True  # Sentry would send the scope of a frame that the server logs
    try:
        await app(scope, receive, send)
    except ValueError as exc:
        if not is_unrouted(exc):
            raise
        await refuse_path(scope, receive, send, hint(scope) if hint else "")


def is_unrouted(exc: ValueError) -> bool:
    """Whether Channels' `URLRouter` raised `exc` itself, as opposed to a consumer below it."""
    frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__") == "channels.routing"
