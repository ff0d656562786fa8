"""Look-ups of handshakes that arrive together, made together.

While one batch is in the database, the next one gathers. A handshake that finds no batch at work begins one,
with those that arrive in the same pass of the event loop, and in the next passes as long as each brings
another. Alone, it makes the queries that it would make without this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from itertools import chain, compress
from typing import Any
from weakref import WeakKeyDictionary, ref

from django.db import InterfaceError, OperationalError

from fastws_compat import conf
from fastws_compat.connections.admission import Turn
from fastws_compat.connections.outcomes import refusal
from fastws_compat.connections.peers import have_left
from fastws_compat.connections.refusal import retry_after
from fastws_compat.exceptions import HTTPException
from fastws_compat.logger import logger
from fastws_compat.logins.judge import ALONE, BATCH
from fastws_compat.logins.lookups import in_thread
from fastws_compat.logins.stores import CacheFails

# Seconds between two searches for handshakes that have waited too long.
INTERVAL = 0.5
# Seconds that a batch gathers at most while handshakes keep arriving. Its queries cost as much as the rest of
# several handshakes, and uvloop accepts only a few connections in each pass.
GATHERING = 0.05

Release = Callable[[], None]


def unavailable() -> HTTPException:
    """The refusal of a handshake whose user cannot be looked up now."""
    return refusal("database", 503, headers={"Retry-After": retry_after()})


class LookUp:
    """One kind of look-up, whose functions run in a thread."""

    def one(self, item: Any, release: Release) -> Any:
        """The result for one item. It calls `release` before it does something that may take long."""
        raise NotImplementedError

    def many(self, items: Sequence[Any]) -> Sequence[Any]:
        """The results for several items, or `ALONE`; it does nothing that takes long for one of them."""
        raise NotImplementedError


class Entry:
    """One item and the handshake that waits for its result."""

    __slots__ = ("begun", "error", "future", "item", "result", "turn")

    def __init__(self, item: Any, turn: Turn | None, future: asyncio.Future[Any], begun: float) -> None:
        self.item = item
        self.turn = turn
        self.future = future
        self.begun = begun
        self.result: Any = ALONE
        self.error: BaseException | None = None

    async def fill(self, work: Awaitable[Any]) -> None:
        try:
            self.result = await work
        except BaseException as exc:
            self.error = exc
        self.resolve()

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _wanted(entries: Iterable[Entry]) -> list[Entry]:
    """Those whose handshakes still wait; one whose client has left is refused without a query."""
    waiting = [entry for entry in entries if not entry.future.done()]
    left = have_left(entry.turn and entry.turn.server for entry in waiting)
    for entry in compress(waiting, left):
        entry.future.set_exception(unavailable())
    return [entry for entry in waiting if not entry.future.done()]


class Queue:
    """The entries of one kind of look-up in one place: at most one batch is at work, and one gathers."""

    __slots__ = ("_context", "_forget", "_look_up", "at_work", "batch", "gathering")

    def __init__(self, look_up: LookUp, forget: Callable[[], object]) -> None:
        self._look_up = look_up
        # Called when there are no entries any more.
        self._forget = forget
        # Of the first that gathered: what all of them see is the same, and what a batch sets is forgotten.
        self._context = Context()
        self.gathering: list[Entry] = []
        # The batch that the next one waits for, and every batch that is not finished.
        self.batch: asyncio.Task[None] | None = None
        self.at_work: dict[asyncio.Task[None], Sequence[Entry]] = {}

    def entries(self) -> list[Entry]:
        """Those that wait for a batch, and those of every batch that is not finished."""
        return [*self.gathering, *chain.from_iterable(self.at_work.values())]

    def add(self, entry: Entry) -> None:
        if not self.gathering:
            self._context = copy_context()
        self.gathering.append(entry)
        if self.batch is None:
            self._begin()

    def _begin(self) -> None:
        """Begin a batch; it takes what has gathered when the loop runs it, after all that comes before."""
        self.batch = None
        if self.gathering:
            loop = asyncio.get_running_loop()
            work = self._work(loop, len(self.gathering))
            self.batch = loop.create_task(work, context=self._context.copy())

    async def _work(self, loop: asyncio.AbstractEventLoop, gathered: int) -> None:
        task: Any = asyncio.current_task()

        def release() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._release, task, context=Context())

        batch: Sequence[Entry] = ()
        try:
            if len(self.gathering) > gathered:
                await self._gather(loop.time() + GATHERING)
            # Whatever fails from here on fails for these entries, and not for those of the next batch again.
            batch, self.gathering = self.gathering, []
            batch = self.at_work[task] = self._take(batch)
            if batch:
                await in_thread(self._find, batch, release)
        except BaseException as exc:
            for entry in batch:
                entry.error = exc
        self.at_work.pop(task, None)
        self._release(task)
        if not self.gathering and not self.at_work:
            self._forget()
        for entry in batch:
            entry.resolve()

    async def _gather(self, until: float) -> None:
        """Wait until a pass of the loop brings no other entry, or until that time of its clock."""
        loop, gathered = asyncio.get_running_loop(), 0
        while len(self.gathering) > gathered and loop.time() < until:
            gathered = len(self.gathering)
            await asyncio.sleep(0)

    def _take(self, gathered: Sequence[Entry]) -> list[Entry]:
        """Those that somebody still waits for, as far as there is room for them in one batch."""
        wanted = _wanted(gathered)
        self.gathering = wanted[BATCH:]
        return wanted[:BATCH]

    def _release(self, task: Any) -> None:
        """Let the next batch begin."""
        if self.batch is task:
            self._begin()

    # In a thread

    def _find(self, batch: Sequence[Entry], release: Release) -> None:
        if len(batch) == 1:
            batch[0].result = self._look_up.one(batch[0].item, release)
            return
        try:
            results = self._look_up.many([entry.item for entry in batch])
        except (OperationalError, InterfaceError, CacheFails):  # down for all of them
            raise
        except Exception:  # it may be the fault of one item
            return
        for entry, result in zip(batch, results, strict=True):
            entry.result = result


class Batches:
    """The queues of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weakly, because a closed loop takes its batches with it.
        self._loop = ref(loop)
        self._queues: dict[Hashable, Queue] = {}
        # Those that are looked up by themselves.
        self._alone: set[Entry] = set()
        self._is_armed = False

    def find(self, look_up_: LookUp, place: Hashable, item: Any, turn: Turn | None) -> asyncio.Future[Any]:
        """The future result for one item, which waits for its batch."""
        loop = asyncio.get_running_loop()
        key = look_up_, place
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = Queue(look_up_, partial(self._queues.pop, key))
        entry = Entry(item, turn, loop.create_future(), loop.time())
        queue.add(entry)
        self._arm()
        return entry.future

    async def alone(self, turn: Turn | None, call: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a call in a thread, in a copy of the running context that is then discarded."""
        loop = asyncio.get_running_loop()
        entry = Entry(None, turn, loop.create_future(), loop.time())
        task = loop.create_task(entry.fill(in_thread(call, *arguments)))
        self._alone.add(entry)
        self._arm()
        try:
            return await entry.future
        finally:
            self._alone.discard(entry)
            task.cancel()

    def is_busy(self, look_up_: LookUp, place: Hashable) -> bool:
        return (look_up_, place) in self._queues

    def _arm(self) -> None:
        loop = self._loop()
        if loop is not None and not self._is_armed:
            self._is_armed = True
            loop.call_later(INTERVAL, self._refuse_late, context=Context())

    def _refuse_late(self) -> None:
        """Refuse handshakes whose look-up takes longer than their time, while some are waiting."""
        self._is_armed = False
        loop, timeout = self._loop(), conf.get("HANDSHAKE_TIMEOUT")
        if loop is None or not (self._queues or self._alone):
            return
        self._arm()
        if timeout is None:
            return
        begun = loop.time() - timeout
        in_queues = [queue.entries() for queue in self._queues.values()]
        entries = chain(self._alone, *in_queues)
        for entry in _wanted([each for each in entries if each.turn is not None and each.begun < begun]):
            logger.warning("WebSocket refused: its user was not found in %g s", timeout)
            entry.future.set_exception(unavailable())


_batches: WeakKeyDictionary[asyncio.AbstractEventLoop, Batches] = WeakKeyDictionary()


async def find(look_up_: LookUp, place: Hashable, item: Any, turn: Turn | None = None) -> Any:
    """The result for `item`, looked up with those of other handshakes in the same place.

    `place` names the databases and the tenant; None stands for a place that is not known. `turn` is that of
    the handshake, which is refused with 503 if it has waited for too long or if its client has left.
    """
    result = ALONE
    if place is not None:
        result = await _of_loop().find(look_up_, place, item, turn)
    if result is ALONE:
        result = await alone(turn, look_up_.one, item, _nothing)
    return result


async def alone(turn: Turn | None, call: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a thread for one handshake; `turn` as in `find`."""
    return await _of_loop().alone(turn, call, *arguments)


def is_busy(look_up_: LookUp, place: Hashable) -> bool:
    """Whether such a look-up is being made in this place, so that another one would have to wait."""
    return _of_loop().is_busy(look_up_, place)


def _of_loop() -> Batches:
    loop = asyncio.get_running_loop()
    batches = _batches.get(loop)
    if batches is None:
        batches = _batches[loop] = Batches(loop)
    return batches


def _nothing() -> None:
    pass
