"""Cancelling a task of a connection and undoing the cancellation; cleanup that is not cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

# The tasks that are running the teardown of dependencies.
_cleaning: WeakSet[asyncio.Task[Any]] = WeakSet()


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "not called from a task"
    return task


def absorb_cancellation(times: int = 1) -> bool:
    """Undo `times` cancellations of the running task; False if another one is pending."""
    task = current_task()
    for _ in range(times):
        task.uncancel()
    return task.cancelling() == 0


class Interrupt:
    """Wakes the tasks that wait inside `wait`, by a cancellation: nothing else ends a server's `receive`."""

    __slots__ = ("_interrupted", "_waiting")

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[Any]] = set()
        self._interrupted: set[asyncio.Task[Any]] = set()

    async def wait(self, receive: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `receive()`, or None if `fire` comes first."""
        task = current_task()
        self._waiting.add(task)
        try:
            value = await receive()
        except asyncio.CancelledError:
            if task not in self._interrupted or not absorb_cancellation():
                raise
            return None
        else:
            if task in self._interrupted:  # the server swallowed the cancellation
                task.uncancel()
            return value
        finally:
            self._waiting.discard(task)
            self._interrupted.discard(task)

    def fire(self) -> None:
        """Wake every waiting task."""
        for task in self._waiting:
            self._interrupted.add(task)
            task.cancel()


def is_cleaning(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` is running the teardown of dependencies: it has a time limit, so do not cancel it."""
    return task in _cleaning


class Cleanup:
    """The teardown of one connection's dependencies. Code that checks `is_cleaning` does not cancel it.

    It must run in the application's own task, which cannot be shielded in any other way.
    """

    __slots__ = ("_task", "_timer", "expired")

    def __init__(self) -> None:
        # How many times the teardown was cancelled because it took too long.
        self.expired = 0
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float | None) -> None:
        """Begin the teardown in the running task. What it awaits is cancelled every `seconds` seconds."""
        self.end()
        self._task = current_task()
        _cleaning.add(self._task)
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        assert self._task is not None
        self.expired += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(seconds, self._expire, seconds)

    def end(self) -> None:
        """End the teardown and its time limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            _cleaning.discard(self._task)
            self._task = None

    def absorb(self) -> bool:
        """Undo the cancellations of this time limit; False if there were none, or if another is pending."""
        expired, self.expired = self.expired, 0
        return expired > 0 and absorb_cancellation(expired)
