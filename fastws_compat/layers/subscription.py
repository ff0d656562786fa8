"""Receiving the messages of one group of a channel layer, for as long as a task runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastws_compat.layers.client import with_timeout
from fastws_compat.logger import in_words, logger

# Seconds until a layer that failed is tried again, and that leaving the group may take.
RETRY_INTERVAL, LEAVE_TIMEOUT = 5, 2
# Seconds after which the membership is renewed: channels_redis forgets it after a day, and Redis when it
# restarts.
RENEWAL_INTERVAL = 600


class Subscription:
    """Calls `on_message` for each message, and `on_recovery` when some may have been missed."""

    def __init__(
        self,
        layer: Any,
        group: str,
        on_message: Callable[[dict[str, Any]], None],
        on_recovery: Callable[[], None],
    ) -> None:
        self._layer = layer
        self._group = group
        self._on_message = on_message
        self._on_recovery = on_recovery
        self._is_down = False

    async def run(self) -> None:
        """Receive until cancelled. An outage of the layer is logged once."""
        while True:
            try:
                await self._receive_all()
            except Exception as exc:
                if not self._is_down:
                    logger.warning(
                        "The channel layer fails (%s): messages from other processes in group %r "
                        "are not received",
                        in_words(exc),
                        self._group,
                    )
                self._is_down = True
                await asyncio.sleep(RETRY_INTERVAL)

    async def _receive_all(self) -> None:
        channel = await with_timeout(self._layer.new_channel())
        await with_timeout(self._layer.group_add(self._group, channel))
        if self._is_down:
            self._on_recovery()
        self._is_down = False
        receiving = asyncio.ensure_future(self._layer.receive(channel))
        try:
            while True:
                # Not cancelled for the renewal: the pub/sub layer would drop the channel.
                await asyncio.wait([receiving], timeout=RENEWAL_INTERVAL)
                if receiving.done():
                    message = receiving.result()
                    receiving = asyncio.ensure_future(self._layer.receive(channel))
                    self._on_message(message)
                else:
                    await with_timeout(self._layer.group_add(self._group, channel))
        finally:
            receiving.cancel()
            with suppress(Exception):
                await with_timeout(self._layer.group_discard(self._group, channel), LEAVE_TIMEOUT)
