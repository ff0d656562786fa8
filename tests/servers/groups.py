"""An application whose sockets are in a group and receive each other's messages; and plain consumers."""

from __future__ import annotations

from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import URLRouter
from django.urls import path

from fastws_compat import FastAPI, WebSocket
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group, counters, on

app = FastAPI()


@app.websocket("/member/{group}")
async def member(websocket: WebSocket, group: str) -> None:
    """Send each message to the group, including this socket; answer "failed" if the layer fails."""
    await websocket.accept()
    await websocket.join(group)
    await websocket.send_text("joined")
    async for text in websocket.iter_text():
        try:
            await Group(group).asend(text)
        except GroupSendError:
            await websocket.send_text("failed")


@app.websocket("/close/{group}")
async def close(websocket: WebSocket, group: str) -> None:
    await Group(group).adisconnect(4401, "logged out")
    await websocket.accept()


@app.websocket("/burst/{group}")
async def burst(websocket: WebSocket, group: str, count: int, size: int = 0) -> None:
    """Send numbers to a group as fast as possible."""
    await websocket.accept()
    for number in range(count):
        await Group(group).asend(f"{number}{' ' * size}")
    await websocket.send_text("done")


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """A socket that joins no group."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/counters")
async def count(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(dict(counters))


@app.websocket("/typed/{group}")
async def typed(websocket: WebSocket, group: str) -> None:
    """Send each message with the type that plain Channels consumers handle."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await Group(group, type="chat.message").asend({"text": text})


@on("chat.message", groups="chat.*")
def translate(message: dict[str, Any]) -> dict[str, Any]:
    return {"translated": message["text"]}


class Native(AsyncJsonWebsocketConsumer):
    """An ordinary consumer that can also send any message to any group."""

    async def connect(self) -> None:
        self.group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        await self.channel_layer.group_send(content["group"], content["message"])

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"native": event["text"]})

    async def fastws_message(self, event: dict[str, Any]) -> None:
        await self.send(event["fastws"]["text"])


mixed = URLRouter([*app.websocket_urlpatterns, path("native/<str:group>", Native.as_asgi())])
