"""Sockets for tests of the operations API on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.asgi import get_asgi_application
from fastws_compat.connections.states import SESSION
from fastws_compat.logins.gate import Login

app = FastAPI()


@app.websocket("/ws/{room}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    await websocket.join(f"room.{room}")
    await websocket.send_text("ready")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@contextmanager
def noted(path: str) -> Iterator[None]:
    """Log how an endpoint ends."""
    try:
        yield
    except WebSocketDisconnect as exc:
        print(f"DISCONNECT {path} {exc.code}", flush=True)
    finally:
        print(f"CLEANUP {path}", flush=True)


async def kicked(websocket: WebSocket) -> None:
    """Wait for the kick without receiving."""
    while not websocket.scope[SESSION].is_unaware:
        await asyncio.sleep(0.05)


@app.websocket("/receiving")
async def receiving(websocket: WebSocket) -> None:
    with noted("/receiving"):
        await websocket.accept()
        await websocket.send_text("ready")
        await websocket.receive_text()


@app.websocket("/busy")
async def busy(websocket: WebSocket) -> None:
    with noted("/busy"):
        await websocket.accept()
        await websocket.send_text("ready")
        await kicked(websocket)
        await websocket.send_text("late")


@app.websocket("/handshaking")
async def handshaking(websocket: WebSocket) -> None:
    with noted("/handshaking"):
        await kicked(websocket)
        await websocket.accept()


@app.websocket("/held")
async def held(websocket: WebSocket) -> None:
    with noted("/held"):
        await websocket.accept()
        Login(websocket, websocket.scope[SESSION], "5").hold()
        await websocket.send_text("ready")
        await websocket.receive_text()


@app.websocket("/ahead")
async def ahead(websocket: WebSocket) -> None:
    with noted("/ahead"):
        await websocket.accept()
        while websocket.scope[SESSION].read_ahead is None:
            await asyncio.sleep(0.05)
        await websocket.send_text("ready")
        await kicked(websocket)
        while True:
            await websocket.receive_text()


@app.websocket("/flood")
async def flood(websocket: WebSocket) -> None:
    with noted("/flood"):
        await websocket.accept()
        while True:
            await websocket.send_text("x" * 65536)


@app.websocket("/closing")
async def closing(websocket: WebSocket) -> None:
    with noted("/closing"):
        await websocket.accept()
        await websocket.close(4401)
        await asyncio.sleep(1)


application = get_asgi_application(app)
