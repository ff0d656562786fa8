"""The WebSocket protocol that also measures the size of each message, for the setting `METRICS_SIZES`."""

from __future__ import annotations

from fastws_compat.connections.census import new_sizes
from fastws_compat.connections.outlet import Outlet
from fastws_compat.connections.states import message_size
from fastws_compat.daphne.protocol import WebSocketProtocol
from fastws_compat.types import Message


class MeasuringProtocol(WebSocketProtocol):
    """Keeps the sizes of the messages in `sizes`, where the connection's session finds them."""

    def connectionMade(self) -> None:
        self.sizes = new_sizes()
        super().connectionMade()

    def _deliver(self, message: Message, size: int) -> None:
        before = self.messages_in
        super()._deliver(message, size)
        if self.messages_in != before:
            self.sizes[0].add(size)

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
