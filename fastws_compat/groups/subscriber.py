"""Code that iterates over the messages of a group without a socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from fastws_compat import conf
from fastws_compat.groups.delivery import Delivery, Frame, new_id
from fastws_compat.layers.client import counters
from fastws_compat.layers.wire import Close, Payload
from fastws_compat.logger import logger


class Subscriber:
    """A participant for `Group.subscribe`. If it reads too slowly, it misses the oldest messages."""

    socket = None

    def __init__(self) -> None:
        self.id = new_id()
        self.ids = (self.id,)
        self._queue: deque[Payload] = deque()
        self._arrived = asyncio.Event()
        self._has_warned = False

    def deliver(self, delivery: Delivery) -> None:
        if len(self._queue) >= conf.get("SLOW_CONSUMER_QUEUE"):
            counters["dropped"] += 1
            self._queue.popleft()
            if not self._has_warned:
                self._has_warned = True
                logger.warning("A subscriber of a group reads too slowly and misses messages")
        self._queue.append(delivery.payload)
        self._arrived.set()

    def tell(self, frame: Frame) -> None:
        """Do nothing: there is no client."""

    def close(self, close: Close) -> None:
        """Do nothing: there is no socket to close."""

    async def messages(self) -> AsyncIterator[Any]:
        """Every message as it was sent; a model comes as a dict."""
        async for payload in self.payloads():
            yield payload.value

    async def payloads(self) -> AsyncIterator[Payload]:
        """Every message as it was encoded."""
        while True:
            while self._queue:
                yield self._queue.popleft()
            self._arrived.clear()
            await self._arrived.wait()
