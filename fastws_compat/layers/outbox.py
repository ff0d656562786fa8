"""Messages that a channel layer did not take: they wait here until it answers again."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary, ref

from fastws_compat.layers.client import with_timeout
from fastws_compat.logger import in_words, logger
from fastws_compat.threads.retries import Retry

# Seconds until a layer that failed is tried again, and that sending one message may take.
RETRY_INTERVAL, SEND_TIMEOUT = 5, 2
# The maximum number of waiting messages. When it is exceeded, the overflow message replaces them.
MAX_WAITING = 1000


class Outbox:
    """The messages of this process for a group of one layer. Only the first failure delays its sender."""

    def __init__(self, layer: Any, group: str, overflow: dict[str, Any]) -> None:
        self._layer = ref(layer)
        self._group = group
        self._overflow = overflow
        self._waiting: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._retry = Retry(self.flush)

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message. While the layer fails, which is logged once, messages are only kept."""
        if self._waiting:
            self._enqueue(message)
            return
        try:
            await self._send(message)
        except Exception as exc:
            logger.warning(
                "The channel layer fails (%s): messages to other processes in group %r are queued",
                in_words(exc),
                self._group,
            )
            self._enqueue(message)

    async def _send(self, message: dict[str, Any]) -> None:
        layer = self._layer()
        if layer is not None:
            await with_timeout(layer.group_send(self._group, message), SEND_TIMEOUT)

    def _enqueue(self, message: dict[str, Any]) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.clear()
                self._waiting.append({**self._overflow})  # another one than `flush` may be sending
            self._waiting.append(message)
        self._retry.arm(RETRY_INTERVAL)

    async def flush(self) -> None:
        """Send what waits; raises if the layer fails."""
        if not self._waiting or self._layer() is None:
            return
        while self._waiting:
            message = self._waiting[0]
            await self._send(message)
            with self._lock:
                if self._waiting[0] is message:  # else an overflow has replaced it meanwhile
                    self._waiting.popleft()
        logger.info("The channel layer is back: the messages for group %r have been sent", self._group)


_outboxes: WeakKeyDictionary[Any, Outbox] = WeakKeyDictionary()


def outbox_of(layer: Any, group: str, overflow: dict[str, Any]) -> Outbox:
    """The layer's one outbox."""
    return _outboxes.get(layer) or _outboxes.setdefault(layer, Outbox(layer, group, overflow))
