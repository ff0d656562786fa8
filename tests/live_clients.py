"""Clients of groups that keep something: what they receive, as JSON, and an application that joins them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastws_compat import FastAPI, WebSocket
from fastws_compat.groups import Group
from tests.fake_server import FakeServer, connected, websocket_scope

TIMEOUT = 20


def joining_app(*groups: Any, **options: Any) -> FastAPI:
    """An application whose sockets join the groups; `joined` collects what came of it."""
    app = FastAPI()
    app.state.joined = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        app.state.joined.append(await websocket.join(*groups, **options))
        async for data in websocket.iter_json():
            own = websocket if data.get("alone") else None
            await Group(data["group"], layer=data.get("layer", "default")).asend(
                data["message"], exclude=own, key=data.get("key")
            )

    return app


def acting_app(act: Callable[[WebSocket], Awaitable[Any]]) -> FastAPI:
    """An application whose sockets accept, do what `act` does, and stay open."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await act(websocket)
        async for _ in websocket.iter_text():
            pass

    return app


class Client(FakeServer):
    """One connection, with its frames as JSON. A binary frame is its head and its payload."""

    seen = 0

    @property
    def frames(self) -> list[Any]:
        return [parsed(message) for message in self.sent if message["type"] == "websocket.send"]

    async def next(self) -> Any:
        """The next frame that `next` has not returned."""
        await self._until(lambda: len(self.frames) > self.seen)
        self.seen += 1
        return self.frames[self.seen - 1]

    async def until(self, kind: str) -> Any:
        """The next envelope of a kind."""
        while (frame := await self.next())["fastws"] != kind:
            pass
        return frame

    def of(self, kind: str) -> list[Any]:
        """All envelopes of a kind so far."""
        return [frame for frame in self.frames if isinstance(frame, dict) and frame.get("fastws") == kind]

    @property
    def offsets(self) -> list[int]:
        return [frame["offset"] for frame in self.of("message")]

    async def until_offset(self, offset: int) -> None:
        await self._until(lambda: self.offsets[-1:] == [offset])


def parsed(message: dict[str, Any]) -> Any:
    if (text := message.get("text")) is not None:
        return json.loads(text)
    data = message["bytes"]
    length = int.from_bytes(data[:2], "big")
    return {**json.loads(data[2 : 2 + length]), "payload": data[2 + length :]}


@asynccontextmanager
async def client(app: Any, claims: str | None = "") -> AsyncIterator[Client]:
    """A connection of `live.js` that says `claims` in its URL, or a raw one without them."""
    query = b"" if claims is None else b"fastws=" + claims.encode()
    socket = Client({"type": "websocket.connect"})
    socket.start(app, websocket_scope(query_string=query))
    try:
        yield socket
    finally:
        await socket.leave()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


__all__ = ["Client", "acting_app", "client", "connected", "eventually", "joining_app", "parsed"]
