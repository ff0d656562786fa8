"""An application that declares nothing about compression."""

from __future__ import annotations

from fastws_compat import FastAPI, WebSocket
from fastws_compat.daphne import install

install()

app = FastAPI()


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
