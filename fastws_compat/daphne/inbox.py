"""What a client sent and the application has not yet received."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future

from fastws_compat.types import Message

MOST_BYTES = 256 * 1024
# What a message takes in memory besides its payload, about.
OVERHEAD = 320


class Inbox:
    """A queue that knows when the client must be made to wait, and when it may go on."""

    __slots__ = ("_bytes", "_loop", "_messages", "_waiters")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        # Never many, and an empty list takes a tenth of the memory of an empty deque.
        self._messages: list[tuple[Message, int]] = []
        self._waiters: list[Future[None]] = []
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        return not self._messages

    @property
    def is_full(self) -> bool:
        return self._bytes >= MOST_BYTES

    @property
    def is_low(self) -> bool:
        return self._bytes <= MOST_BYTES // 2

    def put(self, message: Message, size: int) -> None:
        size += OVERHEAD
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
