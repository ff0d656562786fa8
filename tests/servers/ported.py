"""Endpoints as FastAPI users write them: `oracle` is the real FastAPI's application, `app` is this library's.

Each endpoint notes in a queue how its connection ended; "/next" sends the next note.
"""

import asyncio
from typing import Any

from tests.parity.conftest import Library


def build(lib: Any) -> Any:
    app, notes = lib.FastAPI(), asyncio.Queue[str]()
    named: dict[str, Any] = {}
    tasks: set[asyncio.Task[None]] = set()

    @app.websocket("/next")
    async def next_note(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(await notes.get())
        await websocket.close()

    @app.websocket("/closes")
    async def closes_after_the_disconnect(websocket: lib.WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except lib.WebSocketDisconnect:
            await websocket.close()
            notes.put_nowait("closed")

    @app.websocket("/none")
    async def sends_nothing(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(None)
        await websocket.send_text("after")
        await websocket.receive_text()

    @app.websocket("/two")
    async def two_receivers(websocket: lib.WebSocket):
        await websocket.accept()
        receiving = [asyncio.create_task(websocket.receive_text()) for _ in range(2)]
        await asyncio.sleep(0)
        await websocket.send_text("both receive")
        ends = await asyncio.gather(*receiving, return_exceptions=True)
        notes.put_nowait(" ".join(type(end).__name__ for end in ends))

    @app.websocket("/orphan")
    async def leaves_a_task_behind(websocket: lib.WebSocket):
        async def send() -> None:
            try:
                while True:
                    await websocket.send_text("tick")
                    await asyncio.sleep(0.05)
            except Exception as exc:
                notes.put_nowait(f"{type(exc).__name__} {getattr(exc, 'code', exc)}")

        await websocket.accept()
        tasks.add(asyncio.create_task(send()))
        await websocket.receive_text()

    @app.websocket("/closed-by-another-task")
    async def closed_by_another_task(websocket: lib.WebSocket):
        await websocket.accept()
        receiving = asyncio.create_task(websocket.receive_text())
        await asyncio.sleep(0)
        await websocket.close(4408, "idle")
        [end] = await asyncio.gather(receiving, return_exceptions=True)
        notes.put_nowait(f"{type(end).__name__} {end.code} {end.reason}")

    @app.websocket("/replaces/{name}")
    async def replaces(websocket: lib.WebSocket, name: str):
        await websocket.accept()
        if name in named:
            await named[name].close(4009, "replaced")
        named[name] = websocket
        await websocket.send_text("yours")
        try:
            await websocket.receive_text()
        except lib.WebSocketDisconnect as exc:
            notes.put_nowait(f"{exc.code} {exc.reason}")

    @app.websocket("/sends-to/{name}")
    async def sends_to(websocket: lib.WebSocket, name: str):
        await websocket.accept()
        await named[name].send_text("hello")
        await websocket.receive_text()

    return app


oracle = build(Library("fastapi"))
app = build(Library("fastws_compat"))
