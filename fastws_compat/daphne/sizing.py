"""The WebSocket protocol that also measures the size of each message, for the setting `METRICS_SIZES`."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import Any

from fastws_compat.connections.census import new_sizes
from fastws_compat.connections.outlet import Outlet
from fastws_compat.connections.states import message_size
from fastws_compat.daphne.inbox import Inbox
from fastws_compat.daphne.protocol import WebSocketProtocol
from fastws_compat.types import Message


class MeasuringInbox(Inbox):
    """Measures the client's messages where all of them pass, however they have been read."""

    __slots__ = ("_sizes",)

    def __init__(self, loop: AbstractEventLoop, sizes: Any) -> None:
        super().__init__(loop)
        self._sizes = sizes

    def put(self, message: Message, size: int) -> bool:
        if message["type"] == "websocket.receive":
            self._sizes.add(size)
        return super().put(message, size)


class MeasuringProtocol(WebSocketProtocol):
    """Keeps the sizes of the messages in `sizes`, where the connection's session finds them."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.sizes = new_sizes()
        self.inbox = MeasuringInbox(self.loop, self.sizes[0])

    def write_at_once(self, frame: bytes, size: int) -> bool:
        written = super().write_at_once(frame, size)
        if written:
            self.sizes[1].add(size)
        return written

    def lend(self, outlet: Outlet) -> None:
        """Do nothing: each message has to be measured."""

    async def write_in_turn(self, frame: bytes, size: int) -> None:
        await super().write_in_turn(frame, size)
        self.sizes[1].add(size)

    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "websocket.send":
            self.sizes[1].add(message_size(message))
