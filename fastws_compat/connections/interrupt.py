"""Cancelling a task of a connection and undoing the cancellation; cleanup that is not cancelled."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Self, TypeVar
from weakref import WeakSet

from fastws_compat.modules import loaded

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
                task.uncancel()  # pragma: no cover - CPython 3.11 does not trace it (python/cpython#106749)
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


def anyio_scope() -> Any:
    """A cancel scope of anyio if the running task is in one: nothing else shields from it. Otherwise None.

    It must be entered before the first dependency, which may have scopes of its own (FastAPI).
    """
    backend = loaded("anyio._backends._asyncio")
    if backend is None:
        return None
    states = getattr(backend, "_task_states", None)
    if states is not None and getattr(states.get(current_task()), "cancel_scope", None) is None:
        return None
    return backend.CancelScope()


class Cleanup:
    """The teardown of one connection's dependencies. Code that checks `is_cleaning` does not cancel it.

    It must run in the application's own task, which cannot be shielded in any other way.
    """

    __slots__ = ("_scope", "_task", "_timer", "expired")

    def __init__(self) -> None:
        self._scope = anyio_scope()
        # How many times the teardown was cancelled because it took too long.
        self.expired = 0
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if self._scope is not None:
            self._scope.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> bool | None:
        self.end()
        return None if self._scope is None else self._scope.__exit__(*exc_info)

    def begin(self) -> None:
        """The running task begins its teardown."""
        if self._task is None:
            self._task = current_task()
            _cleaning.add(self._task)
            if self._scope is not None:
                self._scope.shield = True

    @types.coroutine
    def limit(self, work: Coroutine[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
        """The result of `work`, a part of the teardown; every `seconds` whatever it awaits is cancelled.

        Most teardowns never wait, so the timer is set only when this one does.
        """
        try:
            waits_for = work.send(None)
            if seconds:
                self._set_timer(seconds)
            while True:  # as `yield from` does, which cannot continue a coroutine
                try:
                    value = yield waits_for
                except BaseException as exc:
                    waits_for = work.throw(exc)
                else:
                    waits_for = work.send(value)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _expire(self, seconds: float) -> None:
        assert self._task is not None
        self.expired += 1
        self._task.cancel()
        self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def end(self) -> None:
        """The teardown is over, or what follows is not part of it."""
        if self._task is not None:
            _cleaning.discard(self._task)
            self._task = None
            if self._scope is not None:
                self._scope.shield = False

    def absorb(self) -> bool:
        """Undo the cancellations of this time limit; False if there were none, or if another is pending."""
        expired, self.expired = self.expired, 0
        return expired > 0 and absorb_cancellation(expired)
