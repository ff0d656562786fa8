"""An application whose sockets are in a group: what one says, all hear."""

from __future__ import annotations

from fastws_compat import FastAPI, WebSocket
from fastws_compat.groups import Group

app = FastAPI()


@app.websocket("/member/{group}")
async def member(websocket: WebSocket, group: str) -> None:
    """Pass on what comes to everybody, this socket too."""
    await websocket.accept()
    await websocket.join(group)
    await websocket.send_text("joined")
    async for text in websocket.iter_text():
        await Group(group).asend(text)


@app.websocket("/close/{group}")
async def close(websocket: WebSocket, group: str) -> None:
    await Group(group).adisconnect(4401, "logged out")
    await websocket.accept()


@app.websocket("/burst/{group}")
async def burst(websocket: WebSocket, group: str, count: int, size: int = 0) -> None:
    """Send numbers to a group, as fast as it goes."""
    await websocket.accept()
    for number in range(count):
        await Group(group).asend(f"{number}{' ' * size}")
    await websocket.send_text("done")
