"""The socket as an endpoint sees it: two small state machines over ASGI's `receive` and `send`."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, cast

from fastws_compat import jsontext
from fastws_compat.answers import checked_answer
from fastws_compat.closing import can_deny as can_deny
from fastws_compat.closing import close_message, close_reason, closing_messages
from fastws_compat.requests import HTTPConnection, StateT
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from fastws_compat.datastructures import MutableHeaders
    from fastws_compat.groups.group import Group
    from fastws_compat.responses import Response

# The scope key under which a security class leaves the subprotocol that accept() selects by default.
DEFAULT_SUBPROTOCOL = "fastws_compat.subprotocol"
# The scope key of the socket's membership in groups.
MEMBER = "fastws_compat.member"
# What uvicorn says, as if it were the application's fault, when it closed for a frame that the client sent.
CLOSED_BY_SERVER = "after sending 'websocket.close'"


NOT_ACCEPTED = 'WebSocket is not connected. Need to call "accept" first.'
MOST_BYTES_A_CHARACTER = 4
# A socket that is used in vain more often than this lets others run before it raises once more.
MOST_FAILURES = 16
PAUSE, LONGEST_PAUSE = 0.001, 0.1
MODES = ("text", "binary")


class WebSocketState(enum.Enum):
    """Where one side of the connection stands. The numbers are those of the project's specification."""

    CONNECTING = 0
    CONNECTED = 1
    RESPONSE = 2
    DISCONNECTED = 3


CONNECTING, CONNECTED = WebSocketState.CONNECTING, WebSocketState.CONNECTED
RESPONSE, DISCONNECTED = WebSocketState.RESPONSE, WebSocketState.DISCONNECTED
# How the handshake can be answered, and the state that each answer leads to.
ANSWERS = {
    "websocket.accept": CONNECTED,
    "websocket.close": DISCONNECTED,
    "websocket.http.response.start": RESPONSE,
}


class WebSocketDisconnect(Exception):
    """The client is gone; `code` is its close code (1005 without one, 1006 for a lost connection)."""

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        self.code = code
        self.reason = reason or ""


class WebSocketDisconnected(RuntimeError):
    """The socket was used before it was accepted or after it was closed."""


class WebSocket(HTTPConnection[StateT]):
    """One WebSocket connection: what the client sent in its handshake, and the messages both ways."""

    # A message may have so many bytes, and with so few characters it certainly has not more.
    max_message_size: int | None = None
    _surely_fits: float = inf
    # Whether a send has failed before `receive` has given the disconnect.
    _unread = False
    # How often the endpoint has used the socket in a way that failed at once; the session counts anew.
    failures = 0
    # In this state messages go past `receive` and `send`, which saves a call; in none if a class has its own.
    _shortcut: WebSocketState | None = CONNECTED

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.receive is not WebSocket.receive or cls.send is not WebSocket.send:
            cls._shortcut = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise AssertionError(f"A WebSocket needs a scope of type 'websocket', not {scope['type']!r}")
        self.scope = scope
        self._receive = receive
        self._send = send
        self._direct = self._shortcut  # found sooner here, and asked for twice a message
        self.client_state = CONNECTING
        self.application_state = CONNECTING
        # An error that a frame of the client caused, and the close code that answers it.
        self.client_error: tuple[BaseException, int] | None = None
        # How often a message was asked for and how often one came: equal while nobody listens.
        self.asked = 0
        self.answered = 0
        # The end of the connection, seen by others than the endpoint and not yet told to it.
        self.farewell: Message | None = None
        # Headers that dependencies set on a Response for the handshake.
        self.accept_headers: MutableHeaders | None = None

    async def receive(self) -> Message:
        """The next ASGI message; RuntimeError if the server sends one that cannot come now."""
        if self.client_state is CONNECTED:
            self.asked += 1
            try:
                message = await self._receive()
            finally:
                self.answered += 1
            if (
                message["type"] == "websocket.receive"
                and len(message.get("text") or message.get("bytes") or "") <= self._surely_fits
            ):
                return message
            return await self._look(message)
        if self.client_state is CONNECTING:
            return self._connected(await self._receive())
        if self.farewell is not None:
            message, self.farewell = self.farewell, None
            return message
        if self._unread:  # a send has failed; what the client had sent before, and its end, are still to come
            message = await self._receive()
            self._unread = message["type"] != "websocket.disconnect"
            return await self._look(message)
        await self._failed()
        raise WebSocketDisconnected('Cannot call "receive" once a disconnect message has been received.')

    async def _failed(self) -> None:
        """Before an error that costs no time: a loop that swallows such errors must not hold the process."""
        self.failures += 1
        if self.failures > MOST_FAILURES:
            await asyncio.sleep(min(PAUSE * (self.failures - MOST_FAILURES), LONGEST_PAUSE))

    def _connected(self, message: Message) -> Message:
        if message["type"] != "websocket.connect":
            _unexpected('"websocket.connect"', message["type"])
        self.client_state = CONNECTED
        return message

    async def _look(self, message: Message) -> Message:
        """A message as it may be passed on: a disconnect ends the client's side, as one too big does."""
        kind = message["type"]
        if kind == "websocket.receive":
            return await self._fitting(message)
        if kind != "websocket.disconnect":
            _unexpected('"websocket.receive" or "websocket.disconnect"', kind)
        self.client_state = DISCONNECTED
        return message

    def limit_messages(self, size: int | None) -> None:
        """End the connection with 1009 when a message has more than `size` bytes."""
        self.max_message_size = size
        self._surely_fits = inf if size is None else size // MOST_BYTES_A_CHARACTER

    async def _fitting(self, message: Message) -> Message:
        """The message, or the end of the connection because it is too big."""
        if self.max_message_size is None or message_size(message) <= self.max_message_size:
            return message
        await self.end(1009, "message too big")
        return await self.receive()

    def end(self, code: int, reason: str) -> Coroutine[Any, Any, None]:
        """Close the connection over the endpoint's head, which is told as if the client had gone.

        `receive` gives a disconnect with this code, `send` raises WebSocketDisconnect. The client is told
        when what this returns is awaited.
        """
        send, message = self._send, close_message(code, reason)
        self.lose({**message, "type": "websocket.disconnect"})

        async def tell() -> None:
            with suppress(OSError):  # gone already
                await send(message)

        return tell()

    def lose(self, farewell: Message) -> None:
        """Note the end of a connection which the endpoint learns from its next `receive` or `send`."""
        self.client_state = DISCONNECTED
        self._unread = False
        self.farewell = farewell
        disconnect = _disconnect(farewell)

        async def refuse(message: Message) -> None:
            self.application_state = DISCONNECTED
            self.farewell = None
            raise disconnect

        self._send = refuse

    async def send(self, message: Message) -> None:
        """Send an ASGI message; RuntimeError if it cannot be sent now.

        Raises WebSocketDisconnect(1006) if the server says that the client is gone (an `OSError`).
        """
        kind = message["type"]
        if self.application_state is CONNECTED:
            if kind == "websocket.send":
                try:
                    await self._send(message)
                except Exception as exc:
                    raise await self._unsent(exc)
            elif kind == "websocket.close":
                await self._close(message)
            else:
                await self._failed()
                _unexpected('"websocket.send" or "websocket.close"', kind)
        elif kind == "websocket.close" and self.application_state is CONNECTING:
            for answer in closing_messages(message, self.scope, accepted=False):
                await self._answer(answer)
        else:
            await self._answer(message)

    async def _close(self, message: Message) -> None:
        try:
            answer = close_message(message.get("code", 1000), message.get("reason", ""))
            # The new state is set before the message is sent, as in Starlette.
            self.application_state = DISCONNECTED
            await self._send(answer)
        except BaseException as exc:
            self._restore(CONNECTED, DISCONNECTED, exc)
            if isinstance(exc, Exception):
                raise await self._unsent(exc)
            raise

    async def _answer(self, message: Message) -> None:
        """Answer the handshake. A client that has left, or a refusal by the server, is a disconnect."""
        before = after = self.application_state
        try:
            state = ANSWERS.get(message["type"]) if before is CONNECTING else None
            after = state or self._answered_with(message)
            answer = checked_answer(message)
            self.application_state = after
            await self._send(answer)
        except BaseException as exc:
            self._restore(before, after, exc)
            if not isinstance(exc, Exception):
                raise
            if not isinstance(exc, OSError | RuntimeError):
                await self._failed()
                raise
            error = await self._unsent(exc)
            if error is not exc:  # a disconnect; the client has sent nothing that could still be read
                self.lose({"type": "websocket.disconnect", "code": 1006, "reason": ""})
            raise error

    def _restore(self, before: WebSocketState, after: WebSocketState, exc: BaseException) -> None:
        """Restore the state if its message could not be sent, unless the client has left."""
        if self.application_state is after and not isinstance(exc, OSError | WebSocketDisconnect):
            self.application_state = before

    async def _unsent(self, exc: Exception) -> Exception:
        """What the endpoint is told when a message could not be sent."""
        error = exc
        if isinstance(exc, OSError) or (isinstance(exc, RuntimeError) and CLOSED_BY_SERVER in str(exc)):
            self.application_state = DISCONNECTED
            self._lost()
            error = WebSocketDisconnect(1006)
        elif isinstance(exc, UnicodeEncodeError):
            # Half a surrogate pair, which only JSON can write: it came with a client's frame.
            self.client_error = (exc, 1007)
        await self._failed()
        return error

    def _lost(self) -> None:
        """Note that the client is gone, as a send has found out."""
        if self.client_state is CONNECTED:
            self.client_state = DISCONNECTED
            self._unread = True

    def _answered_with(self, message: Message) -> WebSocketState:
        """The state that a message leads to which answers the handshake."""
        kind = message["type"]
        if self.application_state is DISCONNECTED:
            raise WebSocketDisconnected('Cannot call "send" once a close message has been sent.')
        if self.application_state is RESPONSE:
            if kind != "websocket.http.response.body":
                _unexpected('"websocket.http.response.body"', kind)
            return RESPONSE if message.get("more_body", False) else DISCONNECTED
        if kind not in ANSWERS:
            _unexpected('"websocket.accept", "websocket.close" or "websocket.http.response.start"', kind)
        return ANSWERS[kind]

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Accept the handshake, with one of the offered subprotocols and with response headers."""
        if self.client_state is CONNECTING:
            if self._direct:
                self._connected(await self._receive())
            else:
                await self.receive()
        if subprotocol is None:
            subprotocol = self.scope.get(DEFAULT_SUBPROTOCOL)
        if self.accept_headers is not None:
            headers = [*self.accept_headers.raw, *(headers or [])]
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers or []})
        if MEMBER in self.scope:
            self.scope[MEMBER].flush()

    def _raise_on_disconnect(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            raise _disconnect(message)

    async def receive_text(self) -> str:
        """The next text frame; KeyError for a binary one, WebSocketDisconnect at the end."""
        if self.application_state is not CONNECTED:
            await self._failed()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        if self.client_state is self._direct:
            # As `receive` does; here because each call less saves a sixth of a message's time.
            self.asked += 1
            try:
                message = await self._receive()
            finally:
                self.answered += 1
            text: str | None = message.get("text")
            if text is not None and len(text) <= self._surely_fits:
                return text
            message = await self._look(message)
        else:
            message = await self.receive()
        if message["type"] == "websocket.disconnect":
            self._raise_on_disconnect(message)
        try:
            return cast(str, message["text"])
        except KeyError as exc:
            self.client_error = (exc, 1003)
            raise

    async def receive_bytes(self) -> bytes:
        """The next binary frame; KeyError for a text one, WebSocketDisconnect at the end."""
        if self.application_state is not CONNECTED:
            await self._failed()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        if self.client_state is self._direct:
            # As in receive_text.
            self.asked += 1
            try:
                message = await self._receive()
            finally:
                self.answered += 1
            data: bytes | None = message.get("bytes")
            if data is not None and len(data) <= self._surely_fits:
                return data
            message = await self._look(message)
        else:
            message = await self.receive()
        if message["type"] == "websocket.disconnect":
            self._raise_on_disconnect(message)
        try:
            return cast(bytes, message["bytes"])
        except KeyError as exc:
            self.client_error = (exc, 1003)
            raise

    async def receive_json(self, mode: str = "text") -> Any:
        """The next frame ("text" or "binary") parsed as JSON; JSONDecodeError if it is none."""
        if mode not in MODES:
            await self._failed()
            raise _wrong_mode()
        if self.application_state is not CONNECTED:
            await self._failed()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        if self.client_state is self._direct:
            # As in receive_text.
            self.asked += 1
            try:
                message = await self._receive()
            finally:
                self.answered += 1
            text: str | None = message.get("text")
            if text is None or len(text) > self._surely_fits:
                message = await self._look(message)
        else:
            message = await self.receive()
        if message["type"] == "websocket.disconnect":
            self._raise_on_disconnect(message)
        try:
            return jsontext.loads(message["text"] if mode == "text" else message["bytes"].decode("utf-8"))
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
        if self.application_state is self._direct:
            # As `send` does; see receive_text.
            try:
                await self._send({"type": "websocket.send", "text": data})
            except Exception as exc:
                raise await self._unsent(exc)
        else:
            await self.send({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        if self.application_state is self._direct:
            try:
                await self._send({"type": "websocket.send", "bytes": data})
            except Exception as exc:
                raise await self._unsent(exc)
        else:
            await self.send({"type": "websocket.send", "bytes": data})

    async def send_json(self, data: Any, mode: str = "text") -> None:
        """Send `data` as compact JSON in a frame of the given mode ("text" or "binary")."""
        if mode not in MODES:
            await self._failed()
            raise _wrong_mode()
        try:
            text = jsontext.dumps(data)
        except Exception:
            await self._failed()
            raise
        message: Message = {"type": "websocket.send"}
        if mode == "text":
            message["text"] = text
        else:
            message["bytes"] = text.encode("utf-8")
        if self.application_state is self._direct:
            try:
                await self._send(message)
            except Exception as exc:
                raise await self._unsent(exc)
        else:
            await self.send(message)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close with `code` and `reason`; ValueError for a code that cannot be sent (RFC 6455, 7.4).

        Before accept it refuses the handshake: with `code` if that is an HTTP status, else with 403.
        After accept such a status closes with 4000 + status. The reason is cut at 123 bytes.
        """
        reason = "" if reason is None else reason
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def join(self, *groups: Group | str) -> None:
        """Have what the groups are sent, until the connection ends; this socket need not be reading."""
        from fastws_compat.groups.group import join

        try:
            await join(self, *groups)
        except WebSocketDisconnected:
            await self._failed()
            raise

    async def leave(self, *groups: Group | str) -> None:
        """Have no more of what the groups are sent."""
        from fastws_compat.groups.group import leave

        await leave(self, *groups)

    async def send_denial_response(self, response: Response) -> None:
        """Refuse the handshake with an HTTP response; RuntimeError where the server cannot send one."""
        if not can_deny(self.scope):
            await self._failed()
            raise RuntimeError("The server doesn't support the Websocket Denial Response extension.")
        await response(self.scope, self.receive, self.send)


class WebSocketClose:
    """An ASGI application that closes at once."""

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        self.code = code
        self.reason = close_reason(reason)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = {"type": "websocket.close", "code": self.code, "reason": self.reason}
        for answer in closing_messages(message, scope, accepted=False):
            await send(answer)


async def refuse_with(response: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send `response`, or refuse a handshake with 403 where the server cannot send another status."""
    refusal = WebSocketClose() if scope["type"] == "websocket" and not can_deny(scope) else response
    await refusal(scope, receive, send)


def message_size(message: Message) -> int:
    """The bytes of what a message carries."""
    text: str | None = message.get("text")
    if text is None:
        return len(message.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _disconnect(message: Message) -> WebSocketDisconnect:
    code = message.get("code")
    # ASGI: a disconnect without a code means 1005; daphne says None.
    return WebSocketDisconnect(1005 if code is None else code, message.get("reason"))


def _wrong_mode() -> RuntimeError:
    return RuntimeError('The "mode" argument should be "text" or "binary".')


def _unexpected(expected: str, kind: str) -> NoReturn:
    raise RuntimeError(f"Expected ASGI message {expected}, but got {kind!r}")
