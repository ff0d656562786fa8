"""A socket behind the origin check alone."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.django_settings")

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application

app = FastAPI()


@app.websocket("/ws/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


application = get_asgi_application(app)
