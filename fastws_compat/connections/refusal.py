"""Refusing a handshake."""

from __future__ import annotations

import random

from fastws_compat.connections.closing import refusal
from fastws_compat.types import Scope, Send


async def refuse(scope: Scope, send: Send, status: int = 403, *, code: int = 1000) -> None:
    """Refuse a handshake with an HTTP status, or with 403 if the server cannot send another.

    Such a server may log `code`; the client does not see it.
    """
    for message in refusal(status, scope, code):
        if status == 503 and "headers" in message:
            message = {**message, "headers": [(b"Retry-After", retry_after().encode())]}
        await send(message)


def retry_after() -> str:
    """The header's value for a client that may come back: a few seconds, not the same for everybody."""
    return str(random.randint(1, 10))
