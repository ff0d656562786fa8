"""The socket as an endpoint sees it: two small state machines over ASGI's `receive` and `send`."""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, cast

from fastws_compat.requests import HTTPConnection
from fastws_compat.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from fastws_compat.datastructures import MutableHeaders
    from fastws_compat.responses import Response

# The scope key under which a security class leaves the subprotocol that accept() selects by default.
DEFAULT_SUBPROTOCOL = "fastws_compat.subprotocol"


class WebSocketState(enum.Enum):
    """Where one side of the connection stands. The numbers are those of the project's specification."""

    CONNECTING = 0
    CONNECTED = 1
    RESPONSE = 2
    DISCONNECTED = 3


CONNECTING, CONNECTED = WebSocketState.CONNECTING, WebSocketState.CONNECTED
RESPONSE, DISCONNECTED = WebSocketState.RESPONSE, WebSocketState.DISCONNECTED


class WebSocketDisconnect(Exception):
    """The client is gone; `code` is its close code (1005 without one, 1006 for a lost connection)."""

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        self.code = code
        self.reason = reason or ""


class WebSocketDisconnected(RuntimeError):
    """The socket was used before it was accepted or after it was closed."""


class WebSocket(HTTPConnection):
    """One WebSocket connection: what the client sent in its handshake, and the messages both ways."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope)
        if scope["type"] != "websocket":
            raise AssertionError(f"A WebSocket needs a scope of type 'websocket', not {scope['type']!r}")
        self._receive = receive
        self._send = send
        self.client_state = CONNECTING
        self.application_state = CONNECTING
        # An error that a frame of the client caused, and the close code that answers it.
        self.client_error: tuple[BaseException, int] | None = None
        # Headers that dependencies set on a Response for the handshake.
        self.accept_headers: MutableHeaders | None = None

    async def receive(self) -> Message:
        """The next ASGI message; RuntimeError if the server sends one that cannot come now."""
        if self.client_state is CONNECTED:
            message = await self._receive()
            kind = message["type"]
            if kind == "websocket.disconnect":
                self.client_state = DISCONNECTED
            elif kind != "websocket.receive":
                _unexpected('"websocket.receive" or "websocket.disconnect"', kind)
            return message
        if self.client_state is CONNECTING:
            message = await self._receive()
            if message["type"] != "websocket.connect":
                _unexpected('"websocket.connect"', message["type"])
            self.client_state = CONNECTED
            return message
        raise WebSocketDisconnected('Cannot call "receive" once a disconnect message has been received.')

    async def send(self, message: Message) -> None:
        """Send an ASGI message; RuntimeError if it cannot be sent now.

        Raises WebSocketDisconnect(1006) if the server says that the client is gone (an `OSError`).
        """
        kind = message["type"]
        if self.application_state is CONNECTED:
            if kind == "websocket.close":
                self.application_state = DISCONNECTED
            elif kind != "websocket.send":
                _unexpected('"websocket.send" or "websocket.close"', kind)
            try:
                await self._send(message)
            except OSError:
                self.application_state = DISCONNECTED
                raise WebSocketDisconnect(1006)
        else:
            self._answer(kind, message)
            try:
                await self._send(message)
            except OSError as exc:
                self.client_error = (exc, 1006)
                raise

    def _answer(self, kind: str, message: Message) -> None:
        """Move on with a message that answers the handshake; the state changes before it is sent."""
        if self.application_state is DISCONNECTED:
            raise WebSocketDisconnected('Cannot call "send" once a close message has been sent.')
        if self.application_state is RESPONSE:
            if kind != "websocket.http.response.body":
                _unexpected('"websocket.http.response.body"', kind)
            if not message.get("more_body", False):
                self.application_state = DISCONNECTED
        elif kind == "websocket.accept":
            self.application_state = CONNECTED
        elif kind == "websocket.close":
            self.application_state = DISCONNECTED
        elif kind == "websocket.http.response.start":
            self.application_state = RESPONSE
        else:
            _unexpected('"websocket.accept", "websocket.close" or "websocket.http.response.start"', kind)

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Accept the handshake, with one of the offered subprotocols and with response headers."""
        if self.client_state is CONNECTING:
            await self.receive()
        if subprotocol is None:
            subprotocol = self.scope.get(DEFAULT_SUBPROTOCOL)
        if self.accept_headers is not None:
            headers = [*self.accept_headers.raw, *(headers or [])]
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers or []})

    async def _receive_data(self) -> Message:
        if self.application_state is not CONNECTED:
            raise WebSocketDisconnected('WebSocket is not connected. Need to call "accept" first.')
        message = await self.receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code")
            # ASGI: a disconnect without a code means 1005; daphne says None.
            raise WebSocketDisconnect(1005 if code is None else code, message.get("reason"))
        return message

    async def receive_text(self) -> str:
        """The next text frame; KeyError for a binary one, WebSocketDisconnect at the end."""
        message = await self._receive_data()
        try:
            return cast(str, message["text"])
        except KeyError as exc:
            self.client_error = (exc, 1003)
            raise

    async def receive_bytes(self) -> bytes:
        """The next binary frame; KeyError for a text one, WebSocketDisconnect at the end."""
        message = await self._receive_data()
        try:
            return cast(bytes, message["bytes"])
        except KeyError as exc:
            self.client_error = (exc, 1003)
            raise

    async def receive_json(self, mode: str = "text") -> Any:
        """The next frame ("text" or "binary") parsed as JSON; JSONDecodeError if it is none."""
        _check_mode(mode)
        message = await self._receive_data()
        try:
            return json.loads(message["text"] if mode == "text" else message["bytes"].decode("utf-8"))
        except (KeyError, TypeError, AttributeError) as exc:
            self.client_error = (exc, 1003)
            raise
        except (ValueError, RecursionError) as exc:
            self.client_error = (exc, 1007)
            raise

    async def iter_text(self) -> AsyncIterator[str]:
        """Every text frame until the client disconnects."""
        try:
            while True:
                yield await self.receive_text()
        except WebSocketDisconnect:
            pass

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Every binary frame until the client disconnects."""
        try:
            while True:
                yield await self.receive_bytes()
        except WebSocketDisconnect:
            pass

    async def iter_json(self) -> AsyncIterator[Any]:
        """Every text frame, parsed as JSON, until the client disconnects."""
        try:
            while True:
                yield await self.receive_json()
        except WebSocketDisconnect:
            pass

    async def send_text(self, data: str) -> None:
        await self.send({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        await self.send({"type": "websocket.send", "bytes": data})

    async def send_json(self, data: Any, mode: str = "text") -> None:
        """Send `data` as compact JSON in a frame of the given mode ("text" or "binary")."""
        _check_mode(mode)
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        if mode == "text":
            await self.send({"type": "websocket.send", "text": text})
        else:
            await self.send({"type": "websocket.send", "bytes": text.encode("utf-8")})

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close with `code` and `reason` (RFC 6455, 7.4); before accept it refuses the handshake with 403."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason or ""})

    async def send_denial_response(self, response: Response) -> None:
        """Refuse the handshake with an HTTP response; RuntimeError where the server cannot send one."""
        if not can_deny(self.scope):
            raise RuntimeError("The server doesn't support the Websocket Denial Response extension.")
        await response(self.scope, self.receive, self.send)


class WebSocketClose:
    """An ASGI application that closes at once."""

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        self.code = code
        self.reason = reason or ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": self.code, "reason": self.reason})


def can_deny(scope: Scope) -> bool:
    """Whether the server can refuse a handshake with a response (ASGI "WebSocket Denial Response")."""
    return "websocket.http.response" in (scope.get("extensions") or {})


def _check_mode(mode: str) -> None:
    if mode not in ("text", "binary"):
        raise RuntimeError('The "mode" argument should be "text" or "binary".')


def _unexpected(expected: str, kind: str) -> NoReturn:
    raise RuntimeError(f"Expected ASGI message {expected}, but got {kind!r}")
