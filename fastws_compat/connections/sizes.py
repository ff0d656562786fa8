"""Measures the size of each message of a connection if the setting `METRICS_SIZES` is on."""

from __future__ import annotations

from typing import Any

from fastws_compat.connections.census import Histogram
from fastws_compat.connections.states import message_size
from fastws_compat.types import Message, Receive, Send


def receiving(receive: Receive, histogram: Histogram) -> Receive:
    """`receive` that adds the sizes of its messages to a histogram."""

    async def measured() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            histogram.add(message_size(message))
        return message

    return measured


def sending(send: Send, histogram: Histogram) -> Send:
    """`send` that adds the sizes of its messages to a histogram."""

    def measured(message: Message) -> Any:
        if message["type"] == "websocket.send":
            histogram.add(message_size(message))
        return send(message)

    return measured
