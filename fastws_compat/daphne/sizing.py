"""The WebSocket protocol that also measures the size of each message, for the setting `METRICS_SIZES`."""

from __future__ import annotations

from fastws_compat.connections.census import new_sizes
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

    def _write_message(self, frame: bytes, size: int) -> None:
        super()._write_message(frame, size)
        self.sizes[1].add(size)
