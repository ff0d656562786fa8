"""Typed and untyped sockets of one group, for several processes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastws_compat import FastAPI, TypedWebSocket, WebSocket
from fastws_compat.groups import Group
from tests.messages import Said

app = FastAPI()


class Feed(Group[Said]):
    def __init__(self) -> None:
        super().__init__("feed")


@app.websocket("/typed")
async def typed(websocket: TypedWebSocket[Said, Said]) -> None:
    await websocket.accept()
    await websocket.join(Feed())
    await websocket.send_message(Said(text="joined"))
    async for message in websocket:
        await Feed().asend(message)


@app.websocket("/raw")
async def raw(websocket: WebSocket) -> None:
    """Sends what it gets to the group, whatever it is."""
    await websocket.accept()
    await websocket.join("feed")
    await websocket.send_json({"type": "said", "text": "joined"})
    async for value in websocket.iter_json():
        await Group("feed").asend(value)


@app.websocket("/stream")
async def stream() -> AsyncIterator[Said]:
    async with Feed().subscribe() as messages:
        yield Said(text="joined")
        async for message in messages:
            assert isinstance(message, Said)
            yield message
