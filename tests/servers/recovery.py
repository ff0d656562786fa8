"""Rooms with a history, and channel layers that lose and reorder messages."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from fastws_compat import FastAPI, WebSocket
from fastws_compat.groups import Group

app = FastAPI()


@app.websocket("/ws/{room}")
async def joined(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    await websocket.join(room)
    async for data in websocket.iter_json():
        await Group(room).asend(data)


@app.websocket("/early/{room}")
async def joined_before_accept(websocket: WebSocket, room: str) -> None:
    await websocket.join(room)
    await websocket.accept()
    async for _ in websocket.iter_json():
        pass


@app.websocket("/present/{room}/{user}")
async def present(websocket: WebSocket, room: str, user: str) -> None:
    await websocket.accept()
    await websocket.join(room, presence=user, presence_key=user)
    async for _ in websocket.iter_json():
        pass


class Lossy:
    """Loses a tenth of the messages that are kept, and hands a twentieth out after the one that follows."""

    late: Any = None

    async def receive(self, channel: str) -> Any:
        if self.late is not None:
            message, self.late = self.late, None
            return message
        while True:
            message = await self.receive_all(channel)
            if "epoch" not in message.get("fastws", {}):
                return message
            chance = random.random()
            if chance < 0.05 and self.late is None:
                self.late, message = message, await self.receive_all(channel)
            if chance < 0.9:
                return message

    async def receive_all(self, channel: str) -> Any:
        raise NotImplementedError


class LossyPubSub(Lossy, RedisPubSubChannelLayer):  # type: ignore[misc]
    async def receive_all(self, channel: str) -> Any:
        return await self._get_layer().receive(channel)


class TwoSteps(RedisPubSubChannelLayer):  # type: ignore[misc]
    """A layer of the project, around whose method no message may go."""

    async def group_send(self, group: str, message: Any) -> None:
        await self._get_layer().group_send(group, message)


class LossyCore(Lossy, RedisChannelLayer):  # type: ignore[misc]
    async def receive_all(self, channel: str) -> Any:
        return await RedisChannelLayer.receive(self, channel)


class Deadly:
    """Kills the process that sends a message, after the store has kept it."""

    async def group_send(self, group: str, message: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlyPubSub(Deadly, RedisPubSubChannelLayer):  # type: ignore[misc]
    pass


class DeadlyCore(Deadly, RedisChannelLayer):  # type: ignore[misc]
    pass
