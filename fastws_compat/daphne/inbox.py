"""The messages from a client that the application has not received yet."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable

from fastws_compat.types import Message

MAX_BYTES = 256 * 1024
# Approximate memory that a message takes besides its payload.
MESSAGE_OVERHEAD = 320


# What a waiting receiver is given: a message and its size, or None if it is to look into the queue.
Taken = tuple[Message, int] | None


class Inbox:
    """A queue that shows when to stop reading from the client, and when to resume.

    A message for a receiver that waits already is handed to it and never enters the queue. That is only the
    first in line: if several held one and were cancelled, the order in which they return them would count.
    """

    __slots__ = ("_bytes", "_last", "_loop", "_messages", "_waiters", "on_low")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        # There are never many, and an empty list takes a tenth of the memory of an empty deque.
        self._messages: list[tuple[Message, int]] = []
        self._waiters: list[Future[Taken]] = []
        self._bytes = 0
        # The message after which no other follows, once it has been added.
        self._last: Message | None = None
        # Called once when the inbox, which was full, is low.
        self.on_low: Callable[[], object] | None = None

    @property
    def is_empty(self) -> bool:
        return not self._messages

    @property
    def is_low(self) -> bool:
        return self._bytes <= MAX_BYTES // 2

    def put(self, message: Message, size: int) -> bool:
        """Add a message; returns whether the inbox is full."""
        size += MESSAGE_OVERHEAD
        waiters = self._waiters
        if waiters:
            if not self._messages and not waiters[0].done():
                waiters[0].set_result((message, size))
                return False
            self._wake()
        self._messages.append((message, size))
        self._bytes += size
        return self._bytes >= MAX_BYTES

    def end(self, message: Message) -> None:
        """Add the last message, unless there is one.

        Every receiver that waits gets it, because nothing else will wake them.
        """
        if self._last is not None:
            return
        self.put(message, 0)
        self._last = message
        self._wake()

    async def get(self) -> Message:
        while not self._messages:
            waiter: Future[Taken] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                taken = await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    self._put_back(waiter.result())
                raise
            finally:
                self._waiters.remove(waiter)
            if taken is not None:
                return taken[0]
            if self._last is not None and not self._messages:
                return self._last
        message, size = self._messages.pop(0)
        self._bytes -= size
        if self.on_low is not None and self.is_low:
            on_low, self.on_low = self.on_low, None
            on_low()
        return message

    def _put_back(self, taken: Taken) -> None:
        """Offer others what was handed to a receiver that has been cancelled since."""
        if taken is not None:
            self._messages.insert(0, taken)
            self._bytes += taken[1]
        self._wake()

    def _wake(self) -> None:
        """Let every waiting receiver look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
