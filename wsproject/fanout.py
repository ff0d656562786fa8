"""A group of sockets on a Channels layer: the smallest correct form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from fastws_compat import WebSocket, WebSocketDisconnect


class Group:
    """Everybody who joined a name, in every process that shares the layer."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def asend(self, data: Any) -> None:
        """Give `data` as JSON to every socket of the group."""
        await get_channel_layer().group_send(self.name, {"type": "fanout", "data": data})

    def send_on_commit(self, data: Any) -> None:
        """Send from sync code, once the transaction is through; a layer that is down harms no request."""
        transaction.on_commit(lambda: async_to_sync(self.asend)(data), robust=True)


@asynccontextmanager
async def joined(websocket: WebSocket, group: Group) -> AsyncIterator[None]:
    """Pass on what the group is sent, from here on until the block ends, however it ends.

    A layer that fails ends the block: a socket that hears nothing looks alive, a closed one comes back.
    """
    layer = get_channel_layer()
    channel = await layer.new_channel()
    try:
        await layer.group_add(group.name, channel)
        async with asyncio.TaskGroup() as tasks:
            forwarding = tasks.create_task(_forward(layer, channel, websocket))
            yield
            forwarding.cancel()
    except BaseExceptionGroup as failure:
        raise failure.exceptions[0] from None
    finally:
        await layer.group_discard(group.name, channel)


async def _forward(layer: Any, channel: str, websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):  # the endpoint will see it for itself
        while True:
            message = await layer.receive(channel)
            await websocket.send_json(message["data"])
