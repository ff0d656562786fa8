"""Endpoints with limits."""

from __future__ import annotations

import asyncio

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI(max_message_size=1000)
ended: asyncio.Queue[str] = asyncio.Queue()


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as exc:
        ended.put_nowait(f"{websocket.url.path} {exc.code} {exc.reason}")


app.websocket("/size")(echo)
app.websocket("/rate", rate_limit="3/h")(echo)
app.websocket("/idle", idle_timeout=0.2)(echo)
app.websocket("/age", max_age=0.2)(echo)
app.websocket("/two", max_connections=2)(echo)
app.websocket("/address", max_connections_per_address=2)(echo)


@app.websocket("/sleep")
async def sleep(websocket: WebSocket) -> None:
    """Neither send nor receive; record the cancellation."""
    await websocket.accept()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ended.put_nowait("/sleep cancelled")
        raise


@app.websocket("/tick")
async def tick(websocket: WebSocket) -> None:
    """Only send."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.05)
    except WebSocketDisconnect:
        ended.put_nowait("/tick told")


@app.websocket("/flood")
async def flood(websocket: WebSocket) -> None:
    """Send endlessly without waiting for anything else."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(bytes(16))
    except WebSocketDisconnect:
        ended.put_nowait("/flood told")


@app.websocket("/never")
async def never(websocket: WebSocket) -> None:
    await asyncio.Event().wait()


@app.websocket("/ended", max_message_size=None)
async def endings(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await ended.get())
