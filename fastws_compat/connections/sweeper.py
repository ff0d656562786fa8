"""One timer per event loop for all periodic checks."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextvars import Context
from typing import Protocol

from fastws_compat.connections import census
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.logger import logger
from fastws_compat.threads.orm import close_stale_connections

# Seconds between two checks of the connections, and of Django's database connections.
INTERVAL = 0.5
DATABASE_INTERVAL = 5.0
# More connections than this are looked at in turn, because each look takes time and most find nothing.
SLICE = 4000


class Swept(Protocol):
    def sweep(self, now: float) -> bool:
        """Check the connection; whether to check it again at the next tick."""


class Sweeper:
    """Calls `sweep` of each member twice a second while there are any; of calm ones among many less often."""

    __slots__ = (
        "_database",
        "_due",
        "_members",
        "_next_database",
        "_restless",
        "_round",
        "_ticks",
        "is_armed",
    )

    def __init__(self, members: Collection[Swept]) -> None:
        self._members = members
        # Only the loop holds the timer, so that a closed loop can be collected.
        self.is_armed = False
        self._next_database = 0.0
        self._database: asyncio.Task[None] | None = None
        # Those to look at in the coming ticks, and how many ticks it takes to look at all.
        self._round: list[Swept] = []
        self._ticks = 1
        # Those to look at in every tick.
        self._restless: set[Swept] = set()

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_armed = True
        self._due = loop.time() + INTERVAL
        # In an empty context, because the timer would keep the context of the first connection.
        loop.call_later(INTERVAL, self._sweep, loop, context=Context())

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_armed = False
        due = self._due
        if not self._members:
            return
        self.arm(loop)
        now = loop.time()
        if census.is_on:
            census.note_lag(max(0.0, now - due))
        self._look(now)
        if now >= self._next_database and self._database is None:
            self._next_database = now + DATABASE_INTERVAL
            self._database = loop.create_task(close_stale_connections())
            self._database.add_done_callback(self._on_database_checked)

    def _look(self, now: float) -> None:
        if not self._round:
            self._round = list(self._members)
            self._ticks = -(-len(self._round) // SLICE)
        size = -(-len(self._members) // self._ticks)
        due, self._round = self._round[:size], self._round[size:]
        before, self._restless = self._restless, set()
        for member in before:
            if member.sweep(now):
                self._restless.add(member)
        for member in due:
            if member not in before and member.sweep(now):
                self._restless.add(member)

    def _on_database_checked(self, task: asyncio.Task[None]) -> None:
        self._database = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Django's database connections could not be checked", exc_info=for_log(error))
