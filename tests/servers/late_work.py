"""Endpoints that still have work to do when their connection has ended; other paths are those of `apps`.

"/except?as=mine" records "mine work done" when the work is done, or "mine work cut" if it is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from channels.generic.websocket import AsyncWebsocketConsumer

from fastws_compat import BackgroundTasks, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.types import Receive, Scope, Send
from tests.servers import apps
from tests.servers.apps import record

# Longer than several checks of an impatient daphne, and than a DISCONNECT_GRACE of one second.
SECONDS = 4

library = FastAPI()


def name(websocket: WebSocket) -> str:
    return websocket.query_params["as"]


async def work(name: str) -> None:
    try:
        await asyncio.sleep(SECONDS)
    except asyncio.CancelledError:
        record(f"{name} work", "cut")
        raise
    record(f"{name} work", "done")


async def opened(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    record(f"{name} accepted")


@library.websocket("/except")
async def in_except(websocket: WebSocket, name: str = Depends(name)) -> None:
    await opened(websocket, name)
    try:
        await websocket.receive_text()
    except WebSocketDisconnect:
        await work(name)


@library.websocket("/finally")
async def in_finally(websocket: WebSocket, name: str = Depends(name)) -> None:
    await opened(websocket, name)
    try:
        await websocket.receive_text()
    finally:
        await work(name)


@library.websocket("/shielded")
async def shielded(websocket: WebSocket, name: str = Depends(name)) -> None:
    await opened(websocket, name)
    try:
        await websocket.receive_text()
    finally:
        with anyio.CancelScope(shield=True):
            await work(name)


@library.websocket("/cancelled")
async def cancelled(websocket: WebSocket, name: str = Depends(name)) -> None:
    """Never receive, so that only a cancellation shows that the client has left."""
    await opened(websocket, name)
    try:
        await asyncio.Event().wait()
    finally:
        await work(name)


@library.websocket("/failed_send")
async def failed_send(websocket: WebSocket, name: str = Depends(name)) -> None:
    await opened(websocket, name)
    try:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)
    except WebSocketDisconnect:
        await work(name)


@library.websocket("/background")
async def background(websocket: WebSocket, tasks: BackgroundTasks, name: str = Depends(name)) -> None:
    tasks.add_task(work, name)
    await opened(websocket, name)
    await websocket.receive_text()


@library.websocket("/returned")
async def returned(websocket: WebSocket, tasks: BackgroundTasks, name: str = Depends(name)) -> None:
    tasks.add_task(work, name)
    await opened(websocket, name)


@library.websocket("/closed")
async def closed(websocket: WebSocket, name: str = Depends(name)) -> None:
    await opened(websocket, name)
    await websocket.close(4000)
    await work(name)


@library.websocket("/refused")
async def refused(websocket: WebSocket, name: str = Depends(name)) -> None:
    record(f"{name} accepted")
    await websocket.close(404)
    await work(name)


async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
    """A bare application."""
    name = apps.options(scope)["as"]
    await apps.accepted(receive, send)
    record(f"{name} accepted")
    while (await receive())["type"] != "websocket.disconnect":
        pass
    await work(name)


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A Channels consumer."""

    async def connect(self) -> None:
        await self.accept()
        record(f"{self.name} accepted")

    async def disconnect(self, code: Any) -> None:
        await work(self.name)

    @property
    def name(self) -> str:
        return apps.options(self.scope)["as"]


ROUTES: dict[str, Any] = {
    **{route.path: library for route in library.routes},  # type: ignore[attr-defined]
    "/foreign": foreign,
    "/consumer": Consumer.as_asgi(),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await ROUTES.get(scope.get("path", ""), apps.app)(scope, receive, send)
