"""Endpoints that swallow every exception of their socket and continue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastws_compat import FastAPI, WebSocket

app = FastAPI()
USES: dict[str, Callable[[WebSocket], Awaitable[Any]]] = {
    "receive": lambda websocket: websocket.receive(),
    "receive_text": lambda websocket: websocket.receive_text(),
    "receive_bytes": lambda websocket: websocket.receive_bytes(),
    "receive_json": lambda websocket: websocket.receive_json(),
    "wrong_mode": lambda websocket: websocket.receive_json(mode="neither"),
    "send_text": lambda websocket: websocket.send_text("x"),
    "send_bytes": lambda websocket: websocket.send_bytes(b"x"),
    "send_json": lambda websocket: websocket.send_json({}),
    "unserializable": lambda websocket: websocket.send_json(object()),
    "no_text": lambda websocket: websocket.send_text(None),  # type: ignore[arg-type]
    "accept": lambda websocket: websocket.accept(),
    "close": lambda websocket: websocket.close(),
    "iterate": lambda websocket: iterate(websocket),
}


async def iterate(websocket: WebSocket) -> None:
    async for _ in websocket.iter_text():
        pass


async def swallow(websocket: WebSocket, use: str) -> None:
    try:
        while True:
            try:  # noqa: SIM105
                await USES[use](websocket)
            except Exception:
                pass
    except asyncio.CancelledError:
        print(f"CANCELLED {use}", flush=True)
        raise


@app.websocket("/after/{use}")
async def after(websocket: WebSocket, use: str) -> None:
    await websocket.accept()
    await swallow(websocket, use)


@app.websocket("/before/{use}")
async def before(websocket: WebSocket, use: str) -> None:
    await swallow(websocket, use)


@app.websocket("/everything")
async def everything(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        try:  # noqa: SIM105
            await websocket.receive_text()
        except BaseException:
            pass


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
