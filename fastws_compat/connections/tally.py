"""Counting the messages of a connection where the server does not count them itself."""

from __future__ import annotations

import asyncio
from time import time
from typing import Any

from fastws_compat.connections.states import message_size
from fastws_compat.types import Message, Receive, Send

# How many messages of one connection uvicorn sends before other tasks get a turn.
MAX_SENDS_IN_A_ROW = 64

# Whether sizes and times are measured even where that costs a call per message. Their readers turn it on.
is_thorough = False


# Messages in and out, bytes in and out.
Counts = tuple[int | None, int | None, int | None, int | None]


class Tally:
    """The counts of one connection; None until something is measured."""

    __slots__ = ("bytes_in", "bytes_out", "last_in", "messages_in", "messages_out", "sizes")

    def __init__(self) -> None:
        self.messages_out = 0
        self.messages_in: int | None = None
        self.bytes_in: int | None = None
        self.bytes_out: int | None = None
        self.last_in: float | None = None
        # Histograms of the sizes in and out, if they are measured.
        self.sizes: Any = None

    def receiving(self, receive: Receive) -> Receive:
        """`receive` that counts its messages."""
        count = size = 0
        self.messages_in = self.bytes_in = 0

        async def counted() -> Message:
            nonlocal count, size
            message = await receive()
            if message["type"] == "websocket.receive":
                count += 1
                size += message_size(message)
                self.messages_in, self.bytes_in, self.last_in = count, size, time()
            return message

        return counted

    def sizing(self, send: Send) -> Send:
        """`send` that adds up the sizes of its messages."""
        size = self.bytes_out = 0

        def sized(message: Message) -> Any:
            nonlocal size
            if message["type"] == "websocket.send":
                size += message_size(message)
                self.bytes_out = size
            return send(message)

        return sized

    def yielding(self, send: Send) -> Send:
        """`send` that counts its messages and lets other tasks run from time to time.

        After a client has left, uvicorn accepts messages without waiting, and detects the disconnect only
        when the event loop runs. An endpoint that sends in an endless loop would block the process for ever.
        """

        async def before_others(message: Message) -> None:
            await send(message)  # first, so that the messages of several tasks keep their order
            await asyncio.sleep(0)

        def sending(message: Message) -> Any:
            if message["type"] == "websocket.send":
                self.messages_out += 1
                if not self.messages_out % MAX_SENDS_IN_A_ROW:
                    return before_others(message)
            return send(message)  # without a coroutine of its own, because this is called for every message

        return sending
