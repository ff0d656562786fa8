"""Endpoints that ask again and again for a message that is there already, on any library's classes.

"/poll/{way}" polls until a client opens "/now", then receives as usual until "end", and sends all that it
received. "/forever/{way}" polls until its connection ends. "/ended" closes once such an endpoint has ended,
"/other" at once.
"""

import asyncio
from contextlib import suppress
from typing import Any

import fastws_compat


async def wait_for(websocket: Any) -> str:
    text: str = await asyncio.wait_for(websocket.receive_text(), 0)
    return text


async def timeout(websocket: Any) -> str:
    async with asyncio.timeout(0):
        text: str = await websocket.receive_text()
        return text


WAYS = {"wait_for": wait_for, "timeout": timeout}


def build(lib: Any) -> Any:
    app, now, ended = lib.FastAPI(), asyncio.Event(), asyncio.Event()
    WebSocket = lib.WebSocket

    @app.websocket("/poll/{way}")
    async def poll(websocket: WebSocket, way: str) -> None:  # type: ignore[valid-type]
        socket: Any = websocket
        now.clear()
        await socket.accept()
        found: list[str] = []
        while not now.is_set():
            with suppress(TimeoutError):
                found.append(await WAYS[way](socket))
        while found[-1:] != ["end"]:
            found.append(await socket.receive_text())
        await socket.send_json(found)

    @app.websocket("/forever/{way}")
    async def forever(websocket: WebSocket, way: str) -> None:  # type: ignore[valid-type]
        socket: Any = websocket
        ended.clear()
        await socket.accept()
        try:
            while True:
                with suppress(TimeoutError):
                    await WAYS[way](socket)
        finally:
            ended.set()

    @app.websocket("/now")
    async def tell(websocket: WebSocket) -> None:  # type: ignore[valid-type]
        socket: Any = websocket
        await socket.accept()
        now.set()

    @app.websocket("/other")
    async def other(websocket: WebSocket) -> None:  # type: ignore[valid-type]
        socket: Any = websocket
        await socket.accept()

    @app.websocket("/ended")
    async def tell_ended(websocket: WebSocket) -> None:  # type: ignore[valid-type]
        socket: Any = websocket
        await socket.accept()
        await ended.wait()

    return app


app = build(fastws_compat)
