"""Receiving from one channel of the layer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastws_compat.connections.tracebacks import for_log
from fastws_compat.layers.client import with_timeout
from fastws_compat.layers.local import OwnLayer
from fastws_compat.logger import logger

# Seconds between two calls of `receive` if the layer timed out while it waited for a message.
RECEIVE_PAUSE = 0.05

Handle = Callable[[dict[str, Any], str | None], Awaitable[None]]


class ChannelReader:
    """A channel of the layer and the task that receives from it.

    One reader serves all groups, because each of our messages carries the name of its group. Messages from
    plain Channels code do not, so a group that expects such messages has a reader of its own.
    """

    def __init__(
        self, layer: Any, group: str | None, handle: Handle, on_failure: Callable[[Exception], None]
    ) -> None:
        self.group = group
        self.channel: str | None = None
        self.task: asyncio.Task[None] | None = None
        self.layer = layer
        self._handle = handle
        self._on_failure = on_failure

    @property
    def is_open(self) -> bool:
        return self.task is not None and not self.task.done()

    async def open(self) -> None:
        """Start to receive, unless the task is running already. The channel stays the same."""
        if self.channel is None:
            self.channel = await with_timeout(self.layer.new_channel())
        if not self.is_open:
            self.task = asyncio.get_running_loop().create_task(self._read_forever(self.channel))
            if isinstance(self.layer, OwnLayer):
                # Not in the task itself, which may be cancelled before its first step.
                self.task.add_done_callback(partial(_forget_channel, self.layer, self.channel))

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _read_forever(self, channel: str) -> None:
        """Handle each message, until `receive` fails."""
        is_own = isinstance(self.layer, OwnLayer)
        while True:
            try:
                message = await self.layer.receive(channel)
            except Exception as exc:
                if _is_timeout(exc):
                    await asyncio.sleep(RECEIVE_PAUSE)
                    continue
                self._on_failure(exc)
                return
            try:
                await self._handle(message, self.group)
            except Exception as exc:
                logger.error("A message to a group could not be handled", exc_info=for_log(exc))
            if not is_own or self.layer.has_message(channel):
                await asyncio.sleep(0)  # let the members that wait for their server go first


def _forget_channel(layer: OwnLayer, channel: str, task: asyncio.Task[None]) -> None:
    layer.forget(channel)


def _is_timeout(exc: Exception) -> bool:
    """Whether the layer only had no message to return: redis-py 8 raises after waiting five seconds."""
    return type(exc).__name__ == "TimeoutError"
