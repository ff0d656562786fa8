"""The application of `quiet`."""

from __future__ import annotations

import os
from typing import Any

# As in every project: the library is imported before Django is set up.
from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.quiet")
app = FastAPI()


@app.websocket("/boom")
async def boom(websocket: WebSocket) -> None:
    raise ZeroDivisionError("boom")


@app.websocket("/number")
async def number(websocket: WebSocket, number: int) -> None: ...


@app.websocket("/forgotten")
async def forgotten(websocket: WebSocket) -> None:
    await websocket.accept()
    websocket.send_text("without await")  # type: ignore[unused-coroutine]


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise ZeroDivisionError("broken fallback")


application = get_asgi_application(app, fallback=broken)
