"""What stands between the server and the socket of one connection, in a fixed order.

A socket calls its `_receive` and `_send` directly; a pipe only chooses them, when a stage is inserted or removed.
A connection without stages has no pipe.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Coroutine
from contextlib import suppress
from enum import IntEnum
from typing import Any, ClassVar, Protocol

from fastws_compat.connections.states import DISCONNECTED, WebSocketState, disconnect_exception
from fastws_compat.types import Message, Receive, Send


class Place(IntEnum):
    """Every stage there is, from the server (and the middleware of the user) to the socket."""

    SIGNALS = 1
    GUARD = 2
    READ_AHEAD = 3
    LOGIN = 4


class Socket(Protocol):
    """A WebSocket as the stages see it."""

    scope: Any
    client_state: WebSocketState
    application_state: WebSocketState
    _receive: Receive
    _send: Send
    _pipe: Pipe | None
    # How many messages were asked for, and how many came: equal while the endpoint is not receiving.
    _receive_calls: int
    _receive_returns: int
    # A disconnect that the endpoint has not seen yet.
    _pending_disconnect: Message | None


class Stage:
    """One stage. A subclass has `receive`, `send`, or both, and passes on to `_receive` and `_send`."""

    __slots__ = ("_receive", "_send")

    place: ClassVar[Place]
    _receive: Receive
    _send: Send

    @property
    def passes(self) -> bool:
        """Whether `send` passes every message on unchanged, so that a broadcast may skip it."""
        return not hasattr(self, "send")


def _place(stage: Stage) -> Place:
    return stage.place


class Pipe:
    """The stages of one connection."""

    __slots__ = ("_base_receive", "_is_cut", "_socket", "_stages", "base_send", "send")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._base_receive = socket._receive
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
        """Whether a message that skips the stages loses nothing by it."""
        return all(stage.passes for stage in self._stages)

    def _connect(self) -> None:
        receive, send = self._base_receive, self.base_send
        for stage in self._stages:
            stage._receive, stage._send = receive, send
            receive = getattr(stage, "receive", receive)
            send = getattr(stage, "send", send)
        self._socket._receive, self.send = receive, send
        if not self._is_cut:
            self._socket._send = send

    def cut(self, message: Message) -> None:
        """Have the socket's next `send` raise the disconnect; `self.send` still leads to the client."""
        self._is_cut = True
        socket, disconnect = self._socket, disconnect_exception(message)

        async def refuse(_: Message) -> None:
            socket.application_state = DISCONNECTED
            socket._pending_disconnect = None
            raise disconnect

        socket._send = refuse


def pipe_of(socket: Socket) -> Pipe:
    """The socket's pipe; made when it is first needed."""
    if socket._pipe is None:
        socket._pipe = Pipe(socket)
    return socket._pipe


def mark_disconnected(socket: Socket, message: Message) -> Send:
    """End the connection for the endpoint, which sees `message`. The result still sends to the client."""
    pipe = pipe_of(socket)
    socket.client_state = DISCONNECTED
    socket._pending_disconnect = message
    pipe.cut(message)
    return pipe.send


def hang_up(socket: Socket, code: int, reason: str) -> Coroutine[Any, Any, None]:
    """Close the connection on the endpoint's behalf; it sees an ordinary disconnect with this code.

    The close frame is sent when the result is awaited.
    """
    send = mark_disconnected(socket, {"type": "websocket.disconnect", "code": code, "reason": reason})

    async def close() -> None:
        with suppress(OSError):  # the client has left already
            await send({"type": "websocket.close", "code": code, "reason": reason})

    return close()


def direct_send(socket: Socket, server_send: Send) -> bool:
    """Whether nothing but this library's stages stands between the socket and the server."""
    pipe = socket._pipe
    return (socket._send if pipe is None else pipe.base_send) is server_send


def passes(socket: Socket) -> bool:
    """Whether a broadcast may go to the server without passing the stages."""
    return socket._pipe is None or socket._pipe.passes
