"""Sockets for tests of the operations API on real servers."""

from __future__ import annotations

import asyncio

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application

app = FastAPI()


@app.websocket("/ws/{room}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    await websocket.join(f"room.{room}")
    await websocket.send_text("ready")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/busy")
async def busy(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("ready")
    await asyncio.sleep(60)


@app.websocket("/slow")
async def slow(websocket: WebSocket) -> None:
    await asyncio.sleep(3)
    await websocket.accept()


@app.websocket("/flood")
async def flood(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text("x" * 65536)


application = get_asgi_application(app)
