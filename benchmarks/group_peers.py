"""The same broadcast written for each peer, as ASGI applications for `daphne benchmarks.group_peers:app`
and other servers.

The path of a socket is its group; the text "send N" sends N messages to the group. BENCH_PEER names the peer,
BENCH_LAYER the URL of a Redis server (in memory without one), BENCH_DAPHNE "complete" or "stock".
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import django
from django.conf import settings

REDIS = os.environ.get("BENCH_LAYER", "")
MESSAGE = {"user": "ann", "text": "x" * 32}
TEXT = json.dumps(MESSAGE, separators=(",", ":"))
IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 100_000}}
PUBSUB = {
    "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "CONFIG": {"hosts": [{"address": REDIS, "socket_timeout": None}]},
}


def configure() -> None:
    if not settings.configured:
        settings.configure(
            CHANNEL_LAYERS={"default": PUBSUB if REDIS else IN_MEMORY},
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            FASTWS={
                "SLOW_CONSUMER_QUEUE": 100_000,
                "DAPHNE": os.environ.get("BENCH_DAPHNE", "complete"),
                "GC_FREEZE": bool(os.environ.get("BENCH_GC_FREEZE")),
            },
        )
        django.setup()


def ours() -> Any:
    library = importlib.import_module("fastws_compat")
    groups = importlib.import_module("fastws_compat.groups")
    app = library.FastAPI()

    async def member(websocket: Any, name: str) -> None:
        group = groups.Group(name)
        await websocket.accept()
        await websocket.join(group)
        await websocket.send_text("ready")
        async for text in websocket.iter_text():
            for number in range(int(text.split()[1])):
                numbered = {**MESSAGE, "n": f"{number:07}"}
                await group.asend(numbered if text.endswith("numbered") else MESSAGE)

    member.__annotations__ = {"websocket": library.WebSocket, "name": str}
    app.websocket("/{name}")(member)
    return app


def channels() -> Any:
    from channels.generic.websocket import AsyncJsonWebsocketConsumer

    class Consumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            self.name = self.scope["path"].strip("/")
            await self.channel_layer.group_add(self.name, self.channel_name)
            await self.accept()
            await self.send("ready")

        async def disconnect(self, code: int) -> None:
            await self.channel_layer.group_discard(self.name, self.channel_name)

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any
        ) -> None:
            for _number in range(int((text_data or "").split()[1])):
                await self.channel_layer.group_send(self.name, {"type": "tell", "data": MESSAGE})

        async def tell(self, event: dict[str, Any]) -> None:
            await self.send_json(event["data"])

    return Consumer.as_asgi()


def fastapi() -> Any:
    """The manager of FastAPI's documentation, one per group, within one process and without a layer."""
    library = importlib.import_module("fastapi")
    app = library.FastAPI()
    groups: dict[str, list[Any]] = {}

    async def member(websocket: Any, name: str) -> None:
        await websocket.accept()
        active = groups.setdefault(name, [])
        active.append(websocket)
        await websocket.send_text("ready")
        try:
            while True:
                text = await websocket.receive_text()
                for _ in range(int(text.split()[1])):
                    for other in active:
                        await other.send_json(MESSAGE)
        except library.WebSocketDisconnect:
            active.remove(websocket)

    member.__annotations__ = {"websocket": library.WebSocket, "name": str}
    app.websocket("/{name}")(member)
    return app


def bare() -> Any:
    """The minimum for sending to many: a loop over the server's own `send`, with a message encoded once."""
    active: dict[int, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        active[id(scope)] = send
        await send({"type": "websocket.send", "text": "ready"})
        while (message := await receive())["type"] == "websocket.receive":
            for _ in range(int(message["text"].split()[1])):
                for other in list(active.values()):
                    await other({"type": "websocket.send", "text": TEXT})
        del active[id(scope)]

    return app


MAKERS = {"fastws_compat": ours, "channels": channels, "fastapi": fastapi, "bare": bare}


def __getattr__(name: str) -> Any:
    """`app` is the application of the peer in BENCH_PEER, created when the server imports it."""
    if name != "app":
        raise AttributeError(name)
    configure()
    if "daphne.server" in sys.modules:
        from fastws_compat import daphne

        daphne.install()
    made = MAKERS[os.environ["BENCH_PEER"]]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await made(scope, receive, send)

    globals()["app"] = app
    return app
