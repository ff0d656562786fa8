"""Reading a few messages ahead for an endpoint that is not receiving, to notice when the client leaves."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import ClassVar

from fastws_compat.connections.pipe import Place, Socket, Stage, mark_disconnected, pipe_of
from fastws_compat.types import Message

# The maximum number of messages that are read ahead, and of their characters or bytes.
MAX_MESSAGES = 16
MAX_LENGTH = 64 * 1024


class ReadAhead(Stage):
    """A buffer of messages that were received before the endpoint called `receive`.

    If the first is the disconnect, the socket is marked at once. The buffer is bounded, so that the server
    can still apply back-pressure, and it stops filling once the endpoint receives again.
    """

    __slots__ = (
        "_buffer",
        "_is_exhausted",
        "_is_reading",
        "_is_stopped",
        "_paused",
        "_room",
        "disconnect",
        "left",
        "task",
    )

    place: ClassVar[Place] = Place.READ_AHEAD

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._buffer: deque[asyncio.Future[Message]] = deque()
        self._room = MAX_LENGTH
        self._paused = self._is_exhausted = self._is_stopped = False
        # Whether a message is awaited, or has come and is about to be buffered.
        self._is_reading = False
        # The disconnect, if the endpoint has not received the messages before it.
        self.disconnect: Message | None = None
        # Whether the buffer is empty and the endpoint receives from the server again.
        self.left = False
        pipe_of(socket).insert(self)
        self.task = self._read()

    @property
    def is_full(self) -> bool:
        return len(self._buffer) >= MAX_MESSAGES or self._room <= 0

    def read_on(self) -> None:
        """Continue to read, because the endpoint is not receiving."""
        self._paused = False
        if not (self._is_reading or self._is_exhausted or self.is_full):
            self.task = self._read()

    def stop(self) -> None:
        self._is_stopped = self._paused = True
        self.task.cancel()

    def _read(self) -> asyncio.Future[Message]:
        self._is_reading = True
        task = asyncio.ensure_future(self._receive())
        task.add_done_callback(self._on_message)
        return task

    async def receive(self) -> Message:
        self._paused = True
        while not self._buffer:
            if not self._is_reading:  # another task of the endpoint took the last one
                self._bypass()
                return await self._receive()
            # The endpoint may be cancelled while it waits; the message stays for the next call.
            await asyncio.wait([self.task])
        first = self._buffer.popleft()
        if not (self._buffer or self._is_reading):
            self._bypass()
        message = first.result()
        self._room += _length(message)
        return message

    def _bypass(self) -> None:
        self.left = True
        self.remove()

    def _on_message(self, task: asyncio.Future[Message]) -> None:
        self._is_reading = False
        if self._is_stopped and task.cancelled():
            return  # a task that outlives the connection receives from the server
        self._buffer.append(task)
        if task.cancelled() or task.exception() is not None:
            self._is_exhausted = True  # the endpoint's next call raises it
            return
        socket, message = self._socket, task.result()
        self._room -= _length(message)
        self._is_exhausted = message["type"] == "websocket.disconnect"
        if not self._is_exhausted:
            if not self._paused:
                self.read_on()
        elif len(self._buffer) > 1:
            self.disconnect = message
        elif socket._receive_calls == socket._receive_returns and not self.left:  # it is not receiving
            self._bypass()
            mark_disconnected(socket, message)


def _length(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or "")
