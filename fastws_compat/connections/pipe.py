"""The stages between the server and the socket of one connection, in a fixed order.

A socket calls its `_receive` and `_send` directly. The pipe sets them whenever a stage is inserted or
removed. A connection without stages has no pipe.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Coroutine
from contextlib import suppress
from enum import IntEnum
from typing import Any, ClassVar, Protocol

from fastws_compat.connections.closing import close_message
from fastws_compat.connections.outcomes import By, Closed, reported
from fastws_compat.connections.states import DISCONNECTED, MEMBER, WebSocketState, disconnect_exception
from fastws_compat.types import Message, Receive, Send


class Place(IntEnum):
    """The stages in their order, from the server (and the project's middleware) to the socket."""

    HELLO = 0
    SIGNALS = 1
    GUARD = 2
    READ_AHEAD = 3
    LOGIN = 4
    TRACES = 5
    TAP = 6


class Socket(Protocol):
    """A WebSocket as the stages see it."""

    scope: Any
    client_state: WebSocketState
    application_state: WebSocketState
    _receive: Receive
    _send: Send
    _pipe: Pipe | None
    # The number of calls of `receive` and of their returns: equal while the endpoint is not receiving.
    _receive_calls: int
    _receive_returns: int
    # A disconnect that the endpoint has not seen yet.
    _pending_disconnect: Message | None
    # Whether a send failed before `receive` has returned the disconnect.
    _unread: bool
    # The first close, as far as this socket has seen it.
    _closed: Closed | None


class Ended:
    """What stages have in place of their socket once the connection has ended."""

    scope: ClassVar[dict[str, Any]] = {}
    client_state = application_state = DISCONNECTED
    _receive_calls, _receive_returns = 1, 0
    _pending_disconnect = None


ENDED: Any = Ended()


class Stage:
    """A subclass has `receive`, `send`, or both. They call `_receive` and `_send`, towards the server."""

    __slots__ = ("_receive", "_send", "_socket")

    place: ClassVar[Place]
    _receive: Receive
    _send: Send
    # A `Socket`, or a `WebSocket` where a stage needs more of it.
    _socket: Any

    def let_go(self) -> None:
        """Break the reference cycle with the socket, so that the garbage collector has nothing to find."""
        self._socket = ENDED

    @property
    def has_ended(self) -> bool:
        """Whether the connection is over; a task that outlives it may still receive and send."""
        return self._socket is ENDED

    def remove(self) -> None:
        if not self.has_ended:
            pipe_of(self._socket).remove(self)

    @property
    def passes(self) -> bool:
        """Whether `send` forwards every message unchanged, so that a broadcast may skip it."""
        return not hasattr(self, "send")

    @property
    def runs_user_code(self) -> bool:
        """Whether code of the project runs in `send`, which may then need its own task."""
        return False

    def cut(self) -> None:
        """The connection was ended on the endpoint's behalf, so nothing may be held back any more."""


class Pipe:
    """The stages of one connection."""

    __slots__ = ("_base_receive", "_is_cut", "_socket", "_stages", "base_send", "send")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._base_receive = socket._receive
        # `send` of the server, and `send` through all stages.
        self.base_send = self.send = socket._send
        self._stages: list[Stage] = []
        self._is_cut = False

    def insert(self, stage: Stage) -> None:
        insort(self._stages, stage, key=_place)
        self._connect()

    def remove(self, stage: Stage) -> None:
        if stage in self._stages:
            self._stages.remove(stage)
            self._connect()

    @property
    def passes(self) -> bool:
        """Whether a broadcast may skip the stages."""
        return all(stage.passes for stage in self._stages)

    @property
    def runs_user_code(self) -> bool:
        return any(stage.runs_user_code for stage in self._stages)

    def _connect(self) -> None:
        receive, send = self._base_receive, self.base_send
        for stage in self._stages:
            stage._receive, stage._send = receive, send
            receive = getattr(stage, "receive", receive)
            send = getattr(stage, "send", send)
        look_again(self._socket)
        self._socket._receive, self.send = receive, send
        if not self._is_cut:
            self._socket._send = send

    def cut(self, message: Message) -> None:
        """Make the socket's next `send` raise the disconnect; `self.send` still reaches the client."""
        self._is_cut = True

        async def refuse(_: Message) -> None:
            if self._socket is not ENDED:
                self._socket.application_state = DISCONNECTED
                self._socket._pending_disconnect = None
            raise disconnect_exception(self._socket, message)

        self._socket._send = refuse
        for stage in self._stages:
            stage.cut()

    def let_go(self) -> None:
        """As of a stage. What is sent late takes the same way as before."""
        self._socket = ENDED
        for stage in self._stages:
            stage.let_go()


def look_again(socket: Socket) -> None:
    """Have the next broadcast check the state of the socket, which changes."""
    if (member := socket.scope.get(MEMBER)) is not None:
        member.socket = None


def _place(stage: Stage) -> Place:
    return stage.place


def pipe_of(socket: Socket) -> Pipe:
    """The socket's pipe, created when it is first needed."""
    if socket._pipe is None:
        socket._pipe = Pipe(socket)
    return socket._pipe


def mark_disconnected(socket: Socket, message: Message, by: By | None = None) -> Send:
    """End the connection for the endpoint, which sees `message`. The result still reaches the client.

    `by` says who closed the connection; None stands for what the server has reported.
    """
    pipe = pipe_of(socket)
    socket._closed = socket._closed or (reported(message) if by is None else (message["code"], by))
    socket.client_state = DISCONNECTED
    socket._unread = False
    socket._pending_disconnect = message
    if (member := socket.scope.get(MEMBER)) is not None:
        member.note_close(message.get("code"))
    pipe.cut(message)
    return pipe.send


def hang_up(socket: Socket, code: int, reason: str, by: By = "server") -> Coroutine[Any, Any, None]:
    """Close the connection on the endpoint's behalf; it sees an ordinary disconnect with this code.

    The close frame is sent when the result is awaited.
    """
    message = close_message(code, reason)
    send = mark_disconnected(socket, {**message, "type": "websocket.disconnect"}, by)

    async def close() -> None:
        with suppress(OSError):  # the client has left already
            await send(message)

    return close()


def is_direct(socket: Socket, server_send: Send) -> bool:
    """Whether only this library's code runs between the socket and the server's `send`."""
    pipe = socket._pipe
    if pipe is None:
        return socket._send is server_send
    return pipe.base_send is server_send and not pipe.runs_user_code


def passes(socket: Socket) -> bool:
    """Whether a broadcast may go to the server without passing the stages."""
    return socket._pipe is None or socket._pipe.passes
