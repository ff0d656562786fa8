"""An application that answers every HTTP request and every WebSocket with its scope."""

from __future__ import annotations

import json

from fastws_compat.types import Receive, Scope, Send
from tests.servers import apps


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await apps.app(scope, receive, send)
        return
    if scope["path"] == "/exit":
        raise SystemExit(3)
    body = json.dumps(scope, default=lambda value: value.decode("latin-1")).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
