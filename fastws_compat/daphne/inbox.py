"""The messages from a client that the application has not received yet."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future

from fastws_compat.types import Message

MAX_BYTES = 256 * 1024
# Approximate memory that a message takes besides its payload.
MESSAGE_OVERHEAD = 320


class Inbox:
    """A queue that shows when to stop reading from the client, and when to resume."""

    __slots__ = ("_bytes", "_loop", "_messages", "_waiters")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        # There are never many, and an empty list takes a tenth of the memory of an empty deque.
        self._messages: list[tuple[Message, int]] = []
        self._waiters: list[Future[None]] = []
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        return not self._messages

    @property
    def is_full(self) -> bool:
        return self._bytes >= MAX_BYTES

    @property
    def is_low(self) -> bool:
        return self._bytes <= MAX_BYTES // 2

    def put(self, message: Message, size: int) -> None:
        size += MESSAGE_OVERHEAD
        self._messages.append((message, size))
        self._bytes += size
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def get(self) -> Message:
        while not self._messages:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        message, size = self._messages.pop(0)
        self._bytes -= size
        return message
