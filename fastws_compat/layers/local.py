"""The channel layer of a project that has none: groups that end with the process."""

from __future__ import annotations

import asyncio
import functools
from itertools import count
from typing import Any


class LocalLayer:
    """Channels' groups, for the event loops of one process; nothing is copied and nothing is dropped."""

    def __init__(self) -> None:
        self._queues: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Queue[dict[str, Any]]]] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._numbers = count()

    async def new_channel(self) -> str:
        channel = f"local.{next(self._numbers)}"
        self._queues[channel] = (asyncio.get_running_loop(), asyncio.Queue())
        return channel

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self._queues[channel][1].get()

    def forget(self, channel: str) -> None:
        """Nobody receives from the channel any more."""
        self._queues.pop(channel, None)

    async def group_add(self, group: str, channel: str) -> None:
        self._groups.setdefault(group, {})[channel] = None

    async def group_discard(self, group: str, channel: str) -> None:
        channels = self._groups.get(group, {})
        channels.pop(channel, None)
        if not channels:
            self._groups.pop(group, None)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        here = asyncio.get_running_loop()
        for channel in list(self._groups.get(group, ())):
            if channel not in self._queues:
                continue
            loop, queue = self._queues[channel]
            if loop is here:
                queue.put_nowait(message)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, message)
        await asyncio.sleep(0)  # whoever only sends must not keep the loop for itself


@functools.cache
def local_layer(alias: str) -> LocalLayer:
    """The process's own layer that stands in for the missing `CHANNEL_LAYERS[alias]`."""
    return LocalLayer()
