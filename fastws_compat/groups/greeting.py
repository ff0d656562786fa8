"""What the server sends to clients of `live.js` on its own: a hello, and heartbeats."""

from __future__ import annotations

import asyncio
from contextvars import Context
from functools import partial
from typing import ClassVar
from weakref import WeakKeyDictionary

from fastws_compat import conf
from fastws_compat.connections.pipe import Place, Socket, Stage
from fastws_compat.connections.states import SESSION
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.entries import text_frame
from fastws_compat.groups.hub import MAX_DELIVERIES_IN_A_ROW
from fastws_compat.groups.member import Member, member_of
from fastws_compat.types import Message


class Greeting(Stage):
    """Sends the hello right after the handshake is accepted, and is then removed."""

    __slots__ = ()

    place: ClassVar[Place] = Place.HELLO

    def __init__(self, websocket: Socket) -> None:
        self._socket = websocket

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] != "websocket.accept" or self.has_ended:
            return
        member = member_of(self._socket)
        await self._send(text_frame("hello", id=member.id, beat=conf.get("BEAT_SECONDS")))
        self.remove()
        beats = _beats_here()
        beats.start(member)
        self._socket.scope[SESSION].at_end(partial(beats.stop, member))


class Beats:
    """The members of one event loop that receive heartbeats."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self, member: Member) -> None:
        self._members[member.id] = member
        if self._task is None:
            # In an empty context: that of one connection would be shared with all others.
            self._task = asyncio.get_running_loop().create_task(self._beat(), context=Context())

    async def stop(self, member: Member) -> None:
        self._members.pop(member.id, None)
        if not self._members and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(conf.get("BEAT_SECONDS"))
            frame = Frame(text_frame("beat"))
            for number, member in enumerate(tuple(self._members.values()), 1):
                if member.id in self._members:
                    member.tell(frame)
                if not number % MAX_DELIVERIES_IN_A_ROW:
                    await asyncio.sleep(0)


# By event loop.
_beats: WeakKeyDictionary[asyncio.AbstractEventLoop, Beats] = WeakKeyDictionary()


def _beats_here() -> Beats:
    loop = asyncio.get_running_loop()
    return _beats.get(loop) or _beats.setdefault(loop, Beats())
