"""The channel layer of a project without `CHANNEL_LAYERS`: its groups are limited to the process."""

from __future__ import annotations

import asyncio
import functools
from itertools import count
from typing import Any

# The loop that receives from a channel, and the messages that wait for it.
Channel = tuple[asyncio.AbstractEventLoop, asyncio.Queue[dict[str, Any]]]


class OwnLayer:
    """What this library provides in the place of a channel layer."""

    def forget(self, channel: str) -> None:
        """Drop a channel and the messages in it."""
        raise NotImplementedError

    def has_message(self, channel: str) -> bool:
        """Whether `receive` returns without waiting."""
        raise NotImplementedError


class LocalLayer(OwnLayer):
    """Channels' group API for the event loops of one process. It neither copies nor drops messages."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, None]] = {}
        self.channels: dict[str, Channel] = {}
        self._numbers = count()

    async def new_channel(self) -> str:
        channel = f"local.{next(self._numbers)}"
        self.channels[channel] = (asyncio.get_running_loop(), asyncio.Queue())
        return channel

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self.channels[channel][1].get()

    def has_message(self, channel: str) -> bool:
        return not self.channels[channel][1].empty()

    def forget(self, channel: str) -> None:
        self.channels.pop(channel, None)

    async def group_add(self, group: str, channel: str) -> None:
        self.groups.setdefault(group, {})[channel] = None

    async def group_discard(self, group: str, channel: str) -> None:
        channels = self.groups.get(group, {})
        channels.pop(channel, None)
        if not channels:
            self.groups.pop(group, None)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        here = asyncio.get_running_loop()
        for channel in list(self.groups.get(group, ())):
            if channel not in self.channels:
                continue
            loop, queue = self.channels[channel]
            if loop is here:
                queue.put_nowait(message)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, message)
        await asyncio.sleep(0)  # a loop that only sends must not block the event loop


@functools.cache
def local_layer(alias: str) -> LocalLayer:
    """The process's layer for an alias, where `CHANNEL_LAYERS` is empty."""
    return LocalLayer()
