"""Refusing a handshake."""

from __future__ import annotations

import random

from fastws_compat.connections import census
from fastws_compat.connections.closing import can_deny, close_reason, closing_messages, refusal
from fastws_compat.connections.outcomes import Reason, sent_status
from fastws_compat.connections.states import SESSION
from fastws_compat.types import ASGIApp, Receive, Scope, Send


async def refuse(
    scope: Scope, send: Send, status: int = 403, *, reason: Reason | None, code: int = 1000
) -> None:
    """Refuse a handshake with an HTTP status, or with 403 if the server cannot send another.

    Such a server may log `code`; the client does not see it. The refusal is counted unless `reason` is None.
    """
    if reason is not None:
        count(scope, sent_status(scope, status), reason)
    for message in refusal(status, scope, code):
        if status == 503 and "headers" in message:
            message = {**message, "headers": [(b"Retry-After", retry_after().encode())]}
        await send(message)


def count(scope: Scope, status: int, reason: Reason) -> None:
    """Count a refusal: with its session if that has begun."""
    if (session := scope.get(SESSION)) is not None:
        session.note_refusal(status, reason)
    else:
        census.refused(scope, status, reason)


def retry_after() -> str:
    """The header's value for a client that may come back: a few seconds, not the same for everybody."""
    return str(random.randint(1, 10))


class WebSocketClose:
    """An ASGI application that closes at once."""

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        #: The close code.
        self.code = code
        #: The reason of the close frame.
        self.reason = close_reason(reason)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = {"type": "websocket.close", "code": self.code, "reason": self.reason}
        for answer in closing_messages(message, scope, accepted=False):
            await send(answer)


async def refuse_with(response: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send `response`, or refuse a handshake with 403 if the server cannot send another status."""
    refusal = WebSocketClose() if scope["type"] == "websocket" and not can_deny(scope) else response
    await refusal(scope, receive, send)
