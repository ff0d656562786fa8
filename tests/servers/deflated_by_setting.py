"""An application that declares nothing about compression, and the same inside Channels' router."""

from __future__ import annotations

from channels.routing import URLRouter

from fastws_compat import FastAPI, WebSocket
from fastws_compat.daphne import install

install()

app = FastAPI()


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


inside_channels = URLRouter(app.websocket_urlpatterns)
