"""Messages that a channel layer did not take: they wait here, and are sent when it answers again."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary, ref

from asgiref.sync import async_to_sync

from fastws_compat.logger import logger

# Seconds: until a layer that failed is tried again, and that a message to it may take.
RETRY, PATIENCE = 5, 2
# The maximum number of messages that wait; beyond it the other processes are told to check every login.
MAX_WAITING = 1000


class Outbox:
    """The messages of this process for one layer. Only the first that fails makes its sender wait."""

    def __init__(self, layer: Any, group: str, overflow: dict[str, Any]) -> None:
        self._layer = ref(layer)
        self._group = group
        self._overflow = overflow
        self._waiting: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message, or keep it: at once after another has failed. A failure is logged in one line."""
        if self._waiting:
            self._keep(message)
            return
        try:
            await self._send(message)
        except Exception as exc:
            logger.warning("Other processes were not told that a login ended: %r", exc)
            self._keep(message)

    async def _send(self, message: dict[str, Any]) -> None:
        layer = self._layer()
        if layer is not None:
            async with asyncio.timeout(PATIENCE):
                await layer.group_send(self._group, message)

    def _keep(self, message: dict[str, Any]) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.clear()
                self._waiting.append(self._overflow)
            self._waiting.append(message)
            if self._timer is None or not self._timer.is_alive():  # as in a forked process
                self._arm()

    def _arm(self) -> None:
        # A thread, as most processes that save users run no event loop.
        self._timer = threading.Timer(RETRY, self._retry)
        self._timer.daemon = True
        self._timer.start()

    def _retry(self) -> None:
        if self._layer() is None:
            return
        try:
            async_to_sync(self._flush)()
        except Exception as exc:
            logger.debug("Other processes still cannot be told that logins ended: %r", exc)
            with self._lock:
                self._arm()

    async def _flush(self) -> None:
        while self._waiting:
            await self._send(self._waiting[0])
            with self._lock:
                self._waiting.popleft()
        logger.info("Other processes are told again of logins that end")


_outboxes: WeakKeyDictionary[Any, Outbox] = WeakKeyDictionary()


def outbox_of(layer: Any, group: str, overflow: dict[str, Any]) -> Outbox:
    """The one outbox of this layer."""
    return _outboxes.get(layer) or _outboxes.setdefault(layer, Outbox(layer, group, overflow))
