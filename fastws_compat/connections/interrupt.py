"""Cancelling a task of a connection and undoing the cancellation; cleanup that is not cancelled."""

from __future__ import annotations

import asyncio
import signal
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Self, TypeVar

from fastws_compat import conf
from fastws_compat.modules import loaded

T = TypeVar("T")

# Where anyio keeps the scopes of asyncio's tasks.
ANYIO = "anyio._backends._asyncio"

# The tasks that are running the teardown of dependencies.
_cleaning: set[asyncio.Task[Any]] = set()


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


def is_running_in(*tasks: asyncio.Task[Any] | None) -> bool:
    """Whether the calling coroutine runs in one of these tasks; one that is being closed runs in none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop is running
        return False
    return task is not None and task in tasks


def is_from_operator(exc: BaseException) -> bool:
    """Whether an exception may be a Ctrl-C that the server leaves to Python; otherwise code raised it."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return is_default and isinstance(exc, KeyboardInterrupt)


class Interrupt:
    """Wakes the tasks that wait inside `wait`, by a cancellation: nothing else ends a server's `receive`."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # Each with whether it has been woken.
        self._waiting: dict[asyncio.Task[Any], bool] = {}

    async def wait(self, receive: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `receive()`, or None if `fire` comes first."""
        task: Any = asyncio.current_task()
        waiting = self._waiting
        waiting[task] = False
        try:
            value = await receive()
        except asyncio.CancelledError:
            if not waiting[task] or not absorb_cancellation():
                raise
            return None
        else:
            if waiting[task]:  # the server swallowed the cancellation
                task.uncancel()  # pragma: no cover - CPython 3.11 does not trace it (python/cpython#106749)
            return value
        finally:
            del waiting[task]

    def fire(self) -> None:
        """Wake every waiting task."""
        for task in self._waiting:
            self._waiting[task] = True
            task.cancel()


def is_cleaning(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` is running the teardown of dependencies: it has a time limit, so do not cancel it."""
    return task in _cleaning


def anyio_scope(task: asyncio.Task[Any]) -> Any:
    """A cancel scope of anyio if `task` is in one: nothing else shields from it. Otherwise None.

    It must be entered before the first dependency, which may have scopes of its own (FastAPI).
    """
    backend = loaded(ANYIO)
    if backend is None:
        return None
    states = getattr(backend, "_task_states", None)
    if states is not None and (not states or getattr(states.get(task), "cancel_scope", None) is None):
        return None
    return backend.CancelScope()


@types.coroutine
def resumed(work: Any, waits_for: Any) -> Generator[Any, Any, Any]:
    """The result of `work`, which was begun by `send(None)` and waits for what that returned."""
    try:
        while True:  # as `yield from` does, which cannot continue a coroutine
            try:
                value = yield waits_for
            except BaseException as exc:
                waits_for = work.throw(exc)
            else:
                waits_for = work.send(value)
    except StopIteration as done:
        return done.value


class Cleanup:
    """The teardown of one connection's dependencies. Code that checks `is_cleaning` does not cancel it.

    It must run in the application's own task, which cannot be shielded in any other way. As a context manager
    it raises TimeoutError if the teardown was cancelled because it took too long.
    """

    # Most teardowns change few of these attributes, so the others stay in the class.
    _what = "a dependency"
    _scope: Any = None
    # How many times the teardown was cancelled because it took too long.
    _expired = 0
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, what: str = "a dependency") -> None:
        self._what = what
        self._task = current_task()

    def enter(self, task: asyncio.Task[Any]) -> None:
        """`task`, the running one, begins what the teardown will follow. It ends with `leave`."""
        self._task = task
        if ANYIO in sys.modules and (scope := anyio_scope(task)) is not None:
            self._scope = scope
            scope.__enter__()

    def leave(self, exc: BaseException | None = None) -> Any:
        """End everything; true if `exc` is thereby suppressed. TimeoutError if it means that time is up."""
        self.end()
        if self._scope is None and not self._expired:
            return None
        traceback = None if exc is None else exc.__traceback__
        kind = None if exc is None else type(exc)
        suppressed = None if self._scope is None else self._scope.__exit__(kind, exc, traceback)
        timed_out = self._expired and not suppressed and isinstance(exc, asyncio.CancelledError)
        if timed_out and absorb_cancellation(self._expired):
            seconds = conf.get("CLEANUP_TIMEOUT")
            raise TimeoutError(f"The cleanup of {self._what} took longer than {seconds} s") from exc
        return suppressed

    def __enter__(self) -> Self:
        self.enter(current_task())
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> Any:
        return self.leave(exc)

    def begin(self) -> None:
        """The running task begins its teardown."""
        _cleaning.add(self._task)
        if self._scope is not None:
            self._scope.shield = True

    @types.coroutine
    def limit(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """The result of `work`, a part of the teardown; it is cancelled every `CLEANUP_TIMEOUT` seconds.

        Most teardowns never wait, so the timer is set only when this one does.
        """
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        if seconds := conf.get("CLEANUP_TIMEOUT"):
            self._set_timer(seconds)
        try:
            return (yield from resumed(work, waits_for))  # type: ignore[no-any-return]
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _expire(self, seconds: float) -> None:
        self._expired += 1
        self._task.cancel()
        self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def end(self) -> None:
        """The teardown is over, or what follows is not part of it."""
        _cleaning.discard(self._task)
        if self._scope is not None:
            self._scope.shield = False
