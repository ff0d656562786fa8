"""Notices what nobody waits for: one timer per event loop, however many connections it serves."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from fastws_compat.concurrency import close_stale_connections
from fastws_compat.logger import logger
from fastws_compat.types import Message
from fastws_compat.websockets import WebSocket

# How often, in seconds, connections are looked at, and Django's database connections.
INTERVAL = 0.5
DATABASE_INTERVAL = 5.0


class Swept(Protocol):
    task: asyncio.Task[Any] | None

    @property
    def is_ending(self) -> bool: ...

    def sweep(self, now: float) -> None: ...


class Sweeper:
    """Calls `sweep` of each of its members twice a second, as long as it has any."""

    __slots__ = ("_armed", "_database", "_next_database", "members")

    def __init__(self) -> None:
        self.members: set[Swept] = set()
        # The timer itself is the loop's alone, so that a closed loop can go.
        self._armed = False
        self._next_database = 0.0
        self._database: asyncio.Task[None] | None = None

    def add(self, member: Swept) -> None:
        self.members.add(member)
        if not self._armed:
            self._arm(asyncio.get_running_loop())

    def discard(self, member: Swept) -> None:
        self.members.discard(member)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = True
        # In no connection's context: the one that came first would lend its variables to all others.
        loop.call_later(INTERVAL, self._sweep, loop, context=Context())

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        if not self.members:
            return
        self._arm(loop)
        now = loop.time()
        for member in list(self.members):
            member.sweep(now)
        if now >= self._next_database and self._database is None:
            self._next_database = now + DATABASE_INTERVAL
            self._database = loop.create_task(close_stale_connections())
            self._database.add_done_callback(self._checked)

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._database = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Django's database connections could not be checked", exc_info=error)


_sweepers: WeakKeyDictionary[asyncio.AbstractEventLoop, Sweeper] = WeakKeyDictionary()


def sweeper() -> Sweeper:
    """The sweeper of the running loop."""
    loop = asyncio.get_running_loop()
    try:
        return _sweepers[loop]
    except KeyError:
        _sweepers[loop] = found = Sweeper()
        return found


async def drain(seconds: float) -> None:
    """Let the connections of this loop that are ending run their cleanup, before the process leaves.

    uvicorn cancels what is left after its time-out and then waits for the lifespan alone.
    """
    ending = {member.task for member in sweeper().members if member.task and member.is_ending}
    if ending:
        await asyncio.wait(ending, timeout=seconds)


class Ahead:
    """One message, received for an endpoint that is busy elsewhere; it gets it when it asks.

    If it is the disconnect, the WebSocket knows at once. No further message is read before the endpoint
    has asked for this one, so that the server can still make a client wait.
    """

    __slots__ = ("_receive", "_websocket", "taken", "task")

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._receive = websocket._receive
        self.taken = False
        self.task: asyncio.Future[Message] = asyncio.ensure_future(self._receive())
        self.task.add_done_callback(self._came)
        websocket._receive = self._take

    def stop(self) -> None:
        self.task.cancel()

    async def _take(self) -> Message:
        # The endpoint may be cancelled while it waits; the message is for the next that asks.
        await asyncio.wait([self.task])
        if self.taken:  # by another task of the endpoint
            return await self._websocket._receive()
        self._restore()
        return self.task.result()

    def _restore(self) -> None:
        self.taken = True
        self._websocket._receive = self._receive

    def _came(self, task: asyncio.Future[Message]) -> None:
        if task.cancelled() or task.exception() is not None:
            return  # the endpoint gets it when it asks
        websocket, message = self._websocket, task.result()
        nobody_waits = websocket.asked == websocket.answered
        if message["type"] == "websocket.disconnect" and nobody_waits and not self.taken:
            self._restore()
            websocket.lose(message)
