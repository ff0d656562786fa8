"""Calls to one server, one after another, of which all that wait are made together.

Their order is that in which they were asked for. A call that waits for no other is made by its caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any

from fastws_compat.layers.client import with_timeout

# How many calls are made together at most.
MAX_TOGETHER = 256

Waiting = tuple[Any, asyncio.Future[Any]]


class Together:
    """The calls of one event loop to one server. `run` makes several and returns their replies."""

    def __init__(self, run: Callable[[Sequence[Any]], Awaitable[list[Any]]]) -> None:
        self._run = run
        self._is_running = False
        self._waiting: deque[Waiting] = deque()
        self._task: asyncio.Task[None] | None = None

    async def call(self, call: Any) -> Any:
        """The reply to a call. Of the calls that wait for others, one that is cancelled is not made."""
        if self._is_running:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((call, waiter))
            return await waiter
        self._is_running = True
        try:
            [reply] = await self._run([call])
            return reply
        finally:
            self._is_running = False
            if self._waiting:
                self._start()

    def _start(self) -> None:
        """Make the calls that wait, in a task: a caller may be cancelled, and has a time limit of its own."""
        self._is_running = True
        self._task = asyncio.get_running_loop().create_task(self._run_all(), context=Context())

    async def _run_all(self) -> None:
        batch: list[Waiting] = []
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:
            self._is_running, self._task = False, None
            for _, waiter in (*batch, *self._waiting):  # the loop is being closed
                waiter.cancel()
            self._waiting.clear()

    def _next(self) -> list[Waiting]:
        batch: list[Waiting] = []
        while self._waiting and len(batch) < MAX_TOGETHER:
            each = self._waiting.popleft()
            if not each[1].done():
                batch.append(each)
        return batch

    async def _answer(self, batch: list[Waiting]) -> None:
        try:
            replies = await with_timeout(self._run_batch(batch))
        except Exception as exc:
            for _, waiter in batch:
                if not waiter.done():
                    waiter.set_exception(_another(exc))
            return
        for (_, waiter), reply in zip(batch, replies, strict=True):
            if not waiter.done():
                waiter.set_result(reply)

    async def _run_batch(self, batch: list[Waiting]) -> list[Any]:
        return await self._run([call for call, _ in batch])


def _another(exc: Exception) -> Exception:
    """The same failure for another caller: an exception that several raise would collect their tracebacks."""
    try:
        found = type(exc)(*exc.args)
    except Exception:  # its class has arguments of its own
        return exc
    found.__cause__ = exc.__cause__
    return found
