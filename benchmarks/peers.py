"""The same sockets written for each peer, as ASGI applications.

`/plain`, `/deps/{room}`, `/generator/{room}`, `/text`, `/bytes`, `/json`, `/idle`. An application is created
when it is first used (`benchmarks.peers:fastapi` on a server's command line), so that a process holds only
its own peer.
"""

# No `from __future__ import annotations`, because annotations name local classes.

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

OURS = "fastws_compat"
MANY = ("bare", OURS, "fastapi", "channels")


def django() -> None:
    """Configure Django like a project without databases and channel layers."""
    from django.conf import settings

    if not settings.configured:
        daphne = os.environ.get("BENCH_DAPHNE", "complete")
        metrics = ["fastws_compat.contrib.prometheus"] if os.environ.get("BENCH_METRICS") else []
        settings.configure(
            SECRET_KEY="benchmark",
            INSTALLED_APPS=["channels", "fastws_compat", *metrics],
            FASTWS={"DAPHNE": daphne, "MAX_MESSAGE_SIZE": 2**21},
            CHANX={},
        )
        importlib.import_module("django").setup()


def bare() -> Any:
    """The lower bound: an ASGI function that does only what is necessary."""

    async def text(receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def data(receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})

    async def parsed(receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            value = json.loads(message["text"])
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
            await send({"type": "websocket.send", "text": text})

    async def idle(receive: Any, send: Any) -> None:
        await receive()

    echoes = {"/text": text, "/bytes": data, "/json": parsed, "/idle": idle}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise ValueError("websockets only")
        await receive()
        await send({"type": "websocket.accept"})
        echo = echoes.get(scope["path"])
        if echo is None:
            await send({"type": "websocket.close", "code": 1000})
        else:
            await echo(receive, send)

    return app


def ours() -> Any:
    django()
    app = fastapi_style(importlib.import_module(OURS))
    if os.environ.get("BENCH_METRICS"):
        add_switch(app)
    return app


def add_switch(app: Any) -> None:
    """Let a client turn the counting for metrics off and on."""
    from fastws_compat import WebSocket
    from fastws_compat.connections import census

    @app.websocket("/counting/{on}")
    async def switch(websocket: WebSocket, on: bool) -> None:
        if on is not census.is_on:
            (census.start if on else census.stop)()
        await websocket.accept()


def fastapi() -> Any:
    return fastapi_style(importlib.import_module("fastapi"))


def fastapi_style(library: Any) -> Any:
    """The same code for FastAPI and for this library; only the import differs."""
    WebSocket, Depends = library.WebSocket, library.Depends
    Header, Cookie = library.Header, library.Cookie
    app = library.FastAPI()

    async def limit(limit: int = 10) -> int:
        return limit

    async def token(x_token: Annotated[str, Header()], limit: Annotated[int, Depends(limit)]) -> str:
        return x_token

    @app.websocket("/plain")
    async def plain(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/deps/{room}")
    async def with_dependencies(
        websocket: WebSocket,
        room: str,
        session: Annotated[str, Cookie()],
        limit: Annotated[int, Depends(limit)],
        token: Annotated[str, Depends(token)],
    ) -> None:
        await websocket.accept()
        await websocket.close()

    async def opened(x_token: Annotated[str, Header()]) -> AsyncIterator[str]:
        yield x_token

    @app.websocket("/generator/{room}")
    async def with_generator(
        websocket: WebSocket,
        room: str,
        session: Annotated[str, Cookie()],
        token: Annotated[str, Depends(opened)],
        limit: int = 10,
    ) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/text")
    async def text(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except library.WebSocketDisconnect:
            pass

    @app.websocket("/bytes")
    async def data(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_bytes(await websocket.receive_bytes())
        except library.WebSocketDisconnect:
            pass

    @app.websocket("/json")
    async def parsed(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_json(await websocket.receive_json())
        except library.WebSocketDisconnect:
            pass

    @app.websocket("/idle")
    async def idle(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    return app


def channels() -> Any:
    """Channels' own consumers, with code instead of FastAPI's parameters."""
    django()
    from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
    from channels.routing import URLRouter
    from django.urls import path

    class Plain(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.accept()
            await self.close()

    class Dependencies(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            query = dict(
                importlib.import_module("urllib.parse").parse_qsl(self.scope["query_string"].decode())
            )
            headers = dict(self.scope["headers"])
            self.limit = int(query.get("limit", 10))
            self.token = headers[b"x-token"].decode()
            self.session = headers[b"cookie"].decode().partition("session=")[2]
            self.room = self.scope["url_route"]["kwargs"]["room"]
            await self.accept()
            await self.close()

    class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            await self.send(text_data=text_data, bytes_data=bytes_data)

    class Json(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(content)

    return URLRouter(
        [
            path("plain", Plain.as_asgi()),
            path("deps/<room>", Dependencies.as_asgi()),
            path("text", Echo.as_asgi()),
            path("bytes", Echo.as_asgi()),
            path("json", Json.as_asgi()),
            path("idle", Echo.as_asgi()),
        ]
    )


def chanx() -> Any:
    """chanx supports only JSON messages with an "action": `/json` echoes one; `/plain` and `/idle` accept."""
    django()
    from typing import Literal

    import structlog
    from channels.routing import URLRouter
    from chanx.channels.websocket import AsyncJsonWebsocketConsumer
    from chanx.core.decorators import channel, ws_handler
    from chanx.messages.base import BaseMessage
    from django.urls import path

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))

    class Said(BaseMessage):  # type: ignore[misc]
        action: Literal["message"] = "message"
        payload: dict[str, Any]

    @channel(name="echo")
    class Echo(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
        send_authentication_message = False
        send_completion = False
        log_websocket_message = False

        @ws_handler(output_type=Said)
        async def handle_message(self, message: Said) -> Said:
            return message

    class Plain(Echo):
        async def post_authentication(self) -> None:
            await self.close()

    return URLRouter(
        [
            path("json", Echo.as_asgi()),
            path("idle", Echo.as_asgi()),
            path("plain", Plain.as_asgi()),
        ]
    )


MAKERS: dict[str, Callable[[], Any]] = {
    "bare": bare,
    OURS: ours,
    "fastapi": fastapi,
    "channels": channels,
    "chanx": chanx,
}


def available(*names: str) -> Iterator[str]:
    """The peers that are installed."""
    for name in names:
        if name == "bare" or importlib.util.find_spec(name) is not None:
            yield name


def served() -> Any:
    """The application that the environment of the server process selects."""
    if "daphne.server" in sys.modules:
        django()
        from fastws_compat.daphne import install

        install()
    return MAKERS[os.environ["BENCH_PEER"]]()


if "BENCH_PEER" in os.environ:
    app = served()
