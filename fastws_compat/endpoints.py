"""A WebSocket endpoint as a class (Starlette)."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, Literal

from fastws_compat.connections.lifecycle import open_socket, serve_alone
from fastws_compat.connections.states import SESSION
from fastws_compat.limits import limits_of
from fastws_compat.types import Message, Receive, Scope, Send
from fastws_compat.websockets import WebSocket


class WebSocketEndpoint:
    """Three methods to override, for `websocket_route`; `encoding` is the type of the messages."""

    #: The type of the client's messages; None takes text and bytes as they come.
    encoding: Literal["text", "bytes", "json"] | None = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise AssertionError(
                f"A WebSocketEndpoint needs a scope of type 'websocket', not {scope['type']!r}"
            )
        #: The scope of the connection.
        self.scope = scope
        #: ASGI's callable that receives messages.
        self.receive = receive
        #: ASGI's callable that sends messages.
        self.send = send

    def __await__(self) -> Generator[Any, None, None]:
        return self.dispatch().__await__()

    async def dispatch(self) -> None:
        """Run the connection: on_connect, on_receive for each message, on_disconnect (1011 on error)."""
        if SESSION in self.scope:
            await self._serve(self.scope, self.receive, self.send)
        else:
            await serve_alone(lambda scope: self._serve, self.scope, self.receive, self.send, watched=True)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.send = send
        websocket = open_socket(scope, receive, send)
        with limits_of(self.scope).apply(websocket, self.scope.get(SESSION)):
            await self._run(websocket)

    async def _run(self, websocket: WebSocket) -> None:
        await self.on_connect(websocket)
        close_code = 1000
        try:
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.receive":
                    await self.on_receive(websocket, await self.decode(websocket, message))
            close_code = int(message.get("code") or 1000)
        except Exception:
            close_code = 1011
            raise
        finally:
            await self.on_disconnect(websocket, close_code)

    async def decode(self, websocket: WebSocket, message: Message) -> Any:
        """The data of a message; closes with 1003 and raises RuntimeError if its type is wrong."""
        text, data = message.get("text"), message.get("bytes")
        match self.encoding:
            case "text":
                if text is None:
                    await self._refuse(websocket, "Expected text websocket messages, but got bytes")
                return text
            case "bytes":
                if data is None:
                    await self._refuse(websocket, "Expected bytes websocket messages, but got text")
                return data
            case "json":
                try:
                    return json.loads(message["bytes"].decode("utf-8") if text is None else text)
                except json.JSONDecodeError:
                    await self._refuse(websocket, "Malformed JSON data received.")
            case None:
                return data if text is None else text
        raise AssertionError(f"Unsupported 'encoding' attribute {self.encoding}")

    async def _refuse(self, websocket: WebSocket, text: str) -> None:
        await websocket.close(1003)
        error = RuntimeError(text)
        websocket._client_error = (error, 1003)
        raise error

    async def on_connect(self, websocket: WebSocket) -> None:
        """Called for the handshake; the default accepts it."""
        await websocket.accept()

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Called for each message."""

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        """Called when the connection has ended."""
