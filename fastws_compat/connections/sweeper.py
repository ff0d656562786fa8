"""Notices what nobody waits for: one timer per event loop, however many connections it serves."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from fastws_compat.concurrency import close_stale_connections
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.logger import logger
from fastws_compat.types import Message
from fastws_compat.websockets import WebSocket

# How often, in seconds, connections are looked at, and Django's database connections.
INTERVAL = 0.5
DATABASE_INTERVAL = 5.0
# So many messages, and characters or bytes of them, are received for an endpoint that does not ask for them.
MOST_AHEAD = 16
ROOM_AHEAD = 64 * 1024


class Swept(Protocol):
    task: asyncio.Task[Any] | None

    @property
    def is_ending(self) -> bool: ...

    @property
    def is_unaware(self) -> bool: ...

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
            logger.error("Django's database connections could not be checked", exc_info=for_log(error))


_sweepers: WeakKeyDictionary[asyncio.AbstractEventLoop, Sweeper] = WeakKeyDictionary()
# The loop that was asked for last, with its sweeper: a process seldom has two.
_latest: tuple[Callable[[], Any], Sweeper] = (lambda: None, Sweeper())


def sweeper() -> Sweeper:
    """The sweeper of the running loop."""
    global _latest
    loop = asyncio.get_running_loop()
    latest, found = _latest
    if latest() is not loop:
        found = _sweepers.setdefault(loop, Sweeper())
        _latest = ref(loop), found
    return found


def sessions_of(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> list[Swept]:
    """The sessions whose endpoints run in `task`."""
    swept = _sweepers.get(loop)
    return [] if swept is None else [member for member in list(swept.members) if member.task is task]


def ending_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this loop whose endpoints have ended, or are being ended, and that finish their work."""
    return {member.task for member in sweeper().members if member.task and member.is_ending}


async def drain(seconds: float) -> None:
    """Let the connections of this loop that are ending run their cleanup, before the process leaves.

    uvicorn cancels what is left after its time-out and then waits for the lifespan alone.
    """
    if ending := ending_tasks():
        await asyncio.wait(ending, timeout=seconds)


class Ahead:
    """Messages received for an endpoint that is busy elsewhere; it gets them when it asks.

    If the first is the disconnect, the WebSocket knows at once. No more is read than there is room for, so
    that the server can still make a client wait; and no further once the endpoint asks again.
    """

    __slots__ = (
        "_messages",
        "_over",
        "_receive",
        "_rests",
        "_room",
        "_websocket",
        "farewell",
        "left",
        "task",
    )

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._receive = websocket._receive
        self._messages: deque[asyncio.Future[Message]] = deque()
        self._room = ROOM_AHEAD
        self._rests = self._over = False
        # The disconnect, if it came behind messages that the endpoint has not asked for.
        self.farewell: Message | None = None
        # Whether the endpoint has everything, and asks the server again.
        self.left = False
        self.task = self._read()
        websocket._receive = self._take

    @property
    def is_full(self) -> bool:
        return len(self._messages) >= MOST_AHEAD or self._room <= 0

    def read_on(self) -> None:
        """The endpoint is still away, or again."""
        self._rests = False
        if self.task.done() and not self._over and not self.is_full:
            self.task = self._read()

    def stop(self) -> None:
        self.task.cancel()

    def _read(self) -> asyncio.Future[Message]:
        task = asyncio.ensure_future(self._receive())
        task.add_done_callback(self._came)
        return task

    async def _take(self) -> Message:
        self._rests = True
        while not self._messages:
            if self.task.done():  # another task of the endpoint got the last one
                self._leave()
                return await self._websocket._receive()
            # The endpoint may be cancelled while it waits; the message is for the next that asks.
            await asyncio.wait([self.task])
        came = self._messages.popleft()
        if not self._messages and self.task.done():
            self._leave()
        message = came.result()
        self._room += _length(message)
        return message

    def _leave(self) -> None:
        self.left = True
        if self._websocket._receive == self._take:
            self._websocket._receive = self._receive

    def _came(self, task: asyncio.Future[Message]) -> None:
        self._messages.append(task)
        if task.cancelled() or task.exception() is not None:
            self._over = True  # the endpoint gets it when it asks
            return
        websocket, message = self._websocket, task.result()
        self._room -= _length(message)
        self._over = message["type"] == "websocket.disconnect"
        if not self._over:
            if not self._rests:
                self.read_on()
        elif len(self._messages) > 1:
            self.farewell = message
        elif websocket.asked == websocket.answered and not self.left:  # nobody waits
            self._leave()
            websocket.lose(message)


def has_left(socket: Any) -> bool:
    """Whether the peer of a socket will send no more; asked without reading, where nobody reads."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    # A reset is told without being asked for, the half of a close needs the flag where there is one.
    poll.register(socket, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def _length(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or "")
