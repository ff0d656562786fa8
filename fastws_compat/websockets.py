"""The socket as an endpoint sees it: two small state machines over ASGI's `receive` and `send`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Unpack, cast

from fastws_compat.connections import hooks, jsontext
from fastws_compat.connections.answers import checked_answer
from fastws_compat.connections.closing import can_deny as can_deny
from fastws_compat.connections.closing import close_message, closing_messages
from fastws_compat.connections.misuse import MODES, NOT_ACCEPTED, pause_after, unexpected, wrong_mode
from fastws_compat.connections.outcomes import Closed, note_answer
from fastws_compat.connections.pipe import Pipe, hang_up, look_again, mark_disconnected
from fastws_compat.connections.refusal import WebSocketClose as WebSocketClose
from fastws_compat.connections.refusal import refuse_with as refuse_with
from fastws_compat.connections.states import (
    ANSWERS,
    CLOSED_BY_SERVER,
    CONNECTED,
    CONNECTING,
    DEFAULT_SUBPROTOCOL,
    DEFLATE,
    DISCONNECTED,
    MEMBER,
    RESPONSE,
    TURN,
    disconnect_exception,
    disconnect_message,
    message_size,
    raised_by,
)
from fastws_compat.connections.states import WebSocketDisconnect as WebSocketDisconnect
from fastws_compat.connections.states import WebSocketDisconnected as WebSocketDisconnected
from fastws_compat.connections.states import WebSocketState as WebSocketState
from fastws_compat.requests import HTTPConnection, StateT
from fastws_compat.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from fastws_compat.datastructures import MutableHeaders
    from fastws_compat.groups.arrivals import Joined, JoinOptions
    from fastws_compat.groups.group import Group
    from fastws_compat.responses import Response

# UTF-8 needs at most four bytes per character.
MAX_BYTES_PER_CHARACTER = 4


class WebSocket(HTTPConnection[StateT]):
    """One WebSocket connection: what the client sent in its handshake, and the messages both ways."""

    #: The largest message in bytes that the client may send; None if there is no limit.
    max_message_size: int | None = None
    # A text this short cannot exceed the limit: UTF-8 needs at most 4 bytes per character.
    _surely_fits: float = inf
    # How the server may compress the messages; None for a server that cannot, or shall not.
    _deflate: Message | None = None
    # Whether a send failed before `receive` has returned the disconnect.
    _unread = False
    # How often the endpoint used the socket in a way that raised at once; the monitor resets it.
    _instant_errors = 0
    # How many calls of `receive` have raised.
    _receive_failures = 0
    # When the handshake was accepted; the first close by this process, and the server's disconnect.
    _accepted_at: float | None = None
    _closed: Closed | None = None
    _disconnect: Message | None = None
    # The stages between the server and this socket, if there are any.
    _pipe: Pipe | None = None
    # In this state messages skip `receive` and `send`, which saves a call; None if a subclass overrides them.
    _shortcut: WebSocketState | None = CONNECTED

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.receive is not WebSocket.receive or cls.send is not WebSocket.send:
            cls._shortcut = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise AssertionError(f"A WebSocket needs a scope of type 'websocket', not {scope['type']!r}")
        #: The scope of the connection.
        self.scope = scope
        self._receive = receive
        self._send = send
        # An instance attribute is found faster, and every message needs it twice.
        self._direct = self._shortcut
        #: A `WebSocketState`: `client_state` for what was received, `application_state` for what was sent.
        self.client_state = self.application_state = CONNECTING
        # An error that a frame of the client caused, and the close code that answers it.
        self._client_error: tuple[BaseException, int] | None = None
        # The number of calls of `receive` and of their returns: equal while the endpoint is not receiving.
        self._receive_calls = 0
        self._receive_returns = 0
        # A disconnect that the endpoint has not seen yet.
        self._pending_disconnect: Message | None = None
        # Headers that dependencies set on a Response for the handshake.
        self._accept_headers: MutableHeaders | None = None

    async def receive(self) -> Message:
        """The next ASGI message; RuntimeError if the server sends one that is not allowed now."""
        if self.client_state is CONNECTED:
            self._receive_calls += 1
            try:
                message = await self._receive()
            except BaseException:
                self._receive_failures += 1
                raise
            finally:
                self._receive_returns += 1
            if (
                message["type"] == "websocket.receive"
                and len(message.get("text") or message.get("bytes") or "") <= self._surely_fits
            ):
                return message
            return await self._checked(message)
        if self.client_state is CONNECTING:
            return self._connected(await self._receive())
        if self._pending_disconnect is not None:
            message, self._pending_disconnect = self._pending_disconnect, None
            return message
        if self._unread:  # a send has failed; what the client sent before it left is still to be read
            message = await self._receive()
            self._unread = message["type"] != "websocket.disconnect"
            return await self._checked(message)
        await self._pause_after_errors()
        raise WebSocketDisconnected('Cannot call "receive" once a disconnect message has been received.')

    async def _pause_after_errors(self) -> None:
        """Pause before another error, because a loop that swallows errors must not block the process."""
        self._instant_errors += 1
        if (seconds := pause_after(self._instant_errors)) > 0:
            await asyncio.sleep(seconds)

    def _connected(self, message: Message) -> Message:
        if message["type"] != "websocket.connect":
            unexpected('"websocket.connect"', message["type"])
        self.client_state = CONNECTED
        return message

    async def _checked(self, message: Message) -> Message:
        """The message for the endpoint: a disconnect, or a message that is too big, ends the connection."""
        kind = message["type"]
        if kind == "websocket.receive":
            return await self._fitting(message)
        if kind != "websocket.disconnect":
            unexpected('"websocket.receive" or "websocket.disconnect"', kind)
        self.client_state = DISCONNECTED
        look_again(self)
        self._disconnect = message
        return message

    def _limit_messages(self, size: int | None) -> None:
        """End the connection with 1009 when a message has more than `size` bytes."""
        self.max_message_size = size
        self._surely_fits = inf if size is None else size // MAX_BYTES_PER_CHARACTER

    async def _fitting(self, message: Message) -> Message:
        """The message, or a disconnect with 1009 if it is too big."""
        if self.max_message_size is None or message_size(message) <= self.max_message_size:
            return message
        await hang_up(self, 1009, "message too big")
        return await self.receive()

    async def send(self, message: Message) -> None:
        """Send an ASGI message; RuntimeError if it cannot be sent now.

        Raises WebSocketDisconnect(1006) if the server reports that the client has left (an `OSError`).
        """
        kind = message["type"]
        if self.application_state is CONNECTED:
            if kind == "websocket.send":
                try:
                    await self._send(message)
                except Exception as exc:
                    raise await self._send_error(exc)
            elif kind == "websocket.close":
                await self._close(message.get("code", 1000), message.get("reason", ""))
            else:
                await self._pause_after_errors()
                unexpected('"websocket.send" or "websocket.close"', kind)
        elif kind == "websocket.close" and self.application_state is CONNECTING:
            for answer in closing_messages(message, self.scope, accepted=False):
                await self._answer(answer)
        else:
            await self._answer(message)

    async def _close(self, code: Any, reason: Any) -> None:
        knows_the_end = self.client_state is DISCONNECTED and self._pending_disconnect is None
        try:
            answer = close_message(code, reason)
            # The new state is set before the message is sent, as in Starlette.
            self.application_state = DISCONNECTED
            await self._send(answer)
            self._closed = self._closed or (answer["code"], "server")
        except BaseException as exc:
            self._restore(CONNECTED, DISCONNECTED, exc)
            if not isinstance(exc, Exception):
                raise
            if not isinstance(error := await self._send_error(exc), WebSocketDisconnect) or not knows_the_end:
                raise error

    async def _answer(self, message: Message) -> None:
        """Answer the handshake; WebSocketDisconnect if the client has left or the server has refused it."""
        kind = message["type"]
        before = after = self.application_state
        try:
            if before is CONNECTING and kind in ANSWERS:
                after = ANSWERS[kind]
            else:
                after = self._state_after_more(kind, message)
            answer = message
            if kind != "websocket.accept" or message.get("headers") or message.get("subprotocol") is not None:
                answer = checked_answer(message)
                self._subprotocol: str | None = answer.get("subprotocol")
            if self._deflate is not None and after is CONNECTED:
                answer = {**answer, DEFLATE: self._deflate}
            self.application_state = after
            await self._send(answer)
        except BaseException as exc:
            self._restore(before, after, exc)
            if isinstance(exc, Exception):
                raise await self._answer_error(exc)
            raise
        if after is CONNECTED:
            self._accepted_at = monotonic()
        if before is CONNECTING and (after is not CONNECTED or hooks.answered):
            note_answer(self.scope, answer)
        if TURN in self.scope:
            self.scope[TURN].end()  # the next handshake may begin

    async def _answer_error(self, exc: Exception) -> Exception:
        """The exception that the endpoint gets for an answer that could not be sent."""
        if not isinstance(exc, OSError | RuntimeError):
            await self._pause_after_errors()
            return exc
        error = await self._send_error(exc)
        if error is not exc:  # a disconnect; the client has sent nothing that could still be read
            mark_disconnected(self, disconnect_message(1006))
        return error

    def _restore(self, before: WebSocketState, after: WebSocketState, exc: BaseException) -> None:
        """Restore the state if its message could not be sent, unless the client has left."""
        if self.application_state is after and not isinstance(exc, OSError | WebSocketDisconnect):
            self.application_state = before

    async def _send_error(self, exc: Exception) -> Exception:
        """The exception that the endpoint gets for a message that could not be sent."""
        error = exc
        if isinstance(exc, RuntimeError) and (pending := self._pending_disconnect) is not None:
            # While the message waited, the connection was closed on the endpoint's behalf.
            error, self._pending_disconnect = disconnect_exception(self, pending), None
        elif isinstance(exc, OSError) or (isinstance(exc, RuntimeError) and CLOSED_BY_SERVER in str(exc)):
            self.application_state = DISCONNECTED
            self._note_failed_send()
            error = raised_by(self, WebSocketDisconnect(code=1006))
        elif isinstance(exc, UnicodeEncodeError):
            # Half a surrogate pair, which only JSON can write: it came with a client's frame.
            self._client_error = (exc, 1007)
        await self._pause_after_errors()
        return error

    def _note_failed_send(self) -> None:
        """A send has failed because the client has left."""
        if self.client_state is CONNECTED:
            self.client_state = DISCONNECTED
            self._unread = True

    def _state_after_more(self, kind: str, message: Message) -> WebSocketState:
        """The state after more of a response; RuntimeError if the message cannot be sent now."""
        if self.application_state is DISCONNECTED:
            raise WebSocketDisconnected('Cannot call "send" once a close message has been sent.')
        if self.application_state is CONNECTING:
            unexpected('"websocket.accept", "websocket.close" or "websocket.http.response.start"', kind)
        if kind != "websocket.http.response.body":
            unexpected('"websocket.http.response.body"', kind)
        return RESPONSE if message.get("more_body", False) else DISCONNECTED

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
        if self._accept_headers is not None:
            headers = [*self._accept_headers.raw, *(headers or [])]
        message = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers or []}
        if self._direct and self.application_state is CONNECTING:
            await self._answer(message)
        else:
            await self.send(message)
        if MEMBER in self.scope:
            self.scope[MEMBER].flush()

    def _raise_on_disconnect(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            raise disconnect_exception(self, message)

    async def receive_text(self) -> str:
        """The next text frame; KeyError for a binary one, WebSocketDisconnect at the end."""
        if self.application_state is not CONNECTED:
            await self._pause_after_errors()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        if self.client_state is self._direct:
            # The same as `receive`, inlined: each call costs a sixth of a message's time.
            self._receive_calls += 1
            try:
                message = await self._receive()
            except BaseException:
                self._receive_failures += 1
                raise
            finally:
                self._receive_returns += 1
            text: str | None = message.get("text")
            if text is not None and len(text) <= self._surely_fits:
                return text
            message = await self._checked(message)
        else:
            message = await self.receive()
        if message["type"] == "websocket.disconnect":
            self._raise_on_disconnect(message)
        try:
            return cast(str, message["text"])
        except KeyError as exc:
            self._client_error = (exc, 1003)
            raise

    async def receive_bytes(self) -> bytes:
        """The next binary frame; KeyError for a text one, WebSocketDisconnect at the end."""
        if self.application_state is not CONNECTED:
            await self._pause_after_errors()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        if self.client_state is self._direct:
            # As in receive_text.
            self._receive_calls += 1
            try:
                message = await self._receive()
            except BaseException:
                self._receive_failures += 1
                raise
            finally:
                self._receive_returns += 1
            data: bytes | None = message.get("bytes")
            if data is not None and len(data) <= self._surely_fits:
                return data
            message = await self._checked(message)
        else:
            message = await self.receive()
        if message["type"] == "websocket.disconnect":
            self._raise_on_disconnect(message)
        try:
            return cast(bytes, message["bytes"])
        except KeyError as exc:
            self._client_error = (exc, 1003)
            raise

    async def receive_json(self, mode: str = "text") -> Any:
        """The next frame ("text" or "binary") parsed as JSON; JSONDecodeError if it is not JSON."""
        if mode not in MODES:
            await self._pause_after_errors()
            raise wrong_mode()
        if self.application_state is not CONNECTED:
            await self._pause_after_errors()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        if self.client_state is self._direct:
            # As in receive_text.
            self._receive_calls += 1
            try:
                message = await self._receive()
            except BaseException:
                self._receive_failures += 1
                raise
            finally:
                self._receive_returns += 1
            text: str | None = message.get("text")
            if text is None or len(text) > self._surely_fits:
                message = await self._checked(message)
        else:
            message = await self.receive()
        if message["type"] == "websocket.disconnect":
            self._raise_on_disconnect(message)
        try:
            return jsontext.loads(message["text"] if mode == "text" else message["bytes"].decode("utf-8"))
        except (KeyError, TypeError, AttributeError) as exc:
            self._client_error = (exc, 1003)
            raise
        except (ValueError, RecursionError) as exc:
            self._client_error = (exc, 1007)
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
        """Send a text message."""
        if self.application_state is self._direct:
            # As `send` does; see receive_text.
            try:
                await self._send({"type": "websocket.send", "text": data})
            except Exception as exc:
                raise await self._send_error(exc)
        else:
            await self.send({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        if self.application_state is self._direct:
            try:
                await self._send({"type": "websocket.send", "bytes": data})
            except Exception as exc:
                raise await self._send_error(exc)
        else:
            await self.send({"type": "websocket.send", "bytes": data})

    async def send_json(self, data: Any, mode: str = "text") -> None:
        """Send `data` as compact JSON in a frame of the given mode ("text" or "binary")."""
        if mode not in MODES:
            await self._pause_after_errors()
            raise wrong_mode()
        try:
            text = jsontext.dumps(data)
        except Exception:
            await self._pause_after_errors()
            raise
        message: Message = {"type": "websocket.send", "text": text}
        if mode != "text":
            message = {"type": "websocket.send", "bytes": text.encode("utf-8")}
        if self.application_state is self._direct:
            try:
                await self._send(message)
            except Exception as exc:
                raise await self._send_error(exc)
        else:
            await self.send(message)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close with `code` and `reason`; ValueError for a code that cannot be sent (RFC 6455, 7.4).

        Before accept, it refuses the handshake: with `code` if that is an HTTP status, else with 403.
        After accept, an HTTP status closes with 4000 + status. The reason is cut at 123 bytes.
        """
        reason = "" if reason is None else reason
        if self.application_state is self._direct:
            await self._close(code, reason)
        else:
            await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def join(self, *groups: Group[Any] | str, **options: Unpack[JoinOptions]) -> Joined:
        """Receive messages to the groups until the connection ends, even while the endpoint is busy.

        In a group with a history, a client of `live.js` gets what it missed. `recover` is a position that
        another client has told you, or False for never. Nothing older than `since` is sent, and newcomers get
        the `last` messages.

        With `presence`, any JSON that others may see, the user is present; with `watch`, the client only sees
        who is. The key of a user is the primary key, unless `presence_key` is given.
        """
        from fastws_compat.groups.group import join

        try:
            return await join(self, *groups, **options)
        except WebSocketDisconnected:
            await self._pause_after_errors()
            raise

    async def leave(self, *groups: Group[Any] | str) -> None:
        """Stop receiving messages to the groups."""
        from fastws_compat.groups.group import leave

        await leave(self, *groups)

    async def update(self, group: Group[Any] | str, info: Any) -> None:
        """Replace what others see of this user in a group; RuntimeError if the user is not present."""
        from fastws_compat.groups.group import update

        await update(self, group, info)

    async def send_denial_response(self, response: Response) -> None:
        """Refuse the handshake with an HTTP response; RuntimeError if the server cannot send one."""
        if not can_deny(self.scope):
            await self._pause_after_errors()
            raise RuntimeError("The server doesn't support the Websocket Denial Response extension.")
        await response(self.scope, self.receive, self.send)
