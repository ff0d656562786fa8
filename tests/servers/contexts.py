"""An application whose connections and pages set a context variable, as middleware for tenants does.

Each answers with the value that it found. A socket is accepted once "/go" has been called for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextvars import ContextVar

from fastws_compat import FastAPI, WebSocket
from fastws_compat.types import Receive, Scope, Send
from tests.servers import apps as apps  # configures the settings

tenant = ContextVar("tenant", default="none")
library = FastAPI()
may_answer: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


@library.websocket("/socket/{name}")
async def socket(websocket: WebSocket, name: str) -> None:
    found = tenant.get()
    tenant.set(name)
    await may_answer[name].wait()
    await websocket.accept()
    await websocket.send_text(found)
    await websocket.receive()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await library(scope, receive, send)
        return
    found = tenant.get()
    tenant.set("a page")
    _, action, *name = scope["path"].split("/")
    if action == "go":
        may_answer[name[0]].set()
    headers = [(b"content-length", b"%d" % len(found))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": found.encode()})
