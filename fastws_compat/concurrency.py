"""Sync code off the event loop, safe for Django's database connections."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextlib import asynccontextmanager as asynccontextmanager
from time import monotonic
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from asgiref.sync import iscoroutinefunction

from fastws_compat import conf
from fastws_compat.exceptions import StarletteDeprecationWarning

P = ParamSpec("P")
T = TypeVar("T")

# Where the sync code of a loop runs instead of in the pool; the test client sends it to the thread
# that holds the test's transaction.
thread_executors: WeakKeyDictionary[asyncio.AbstractEventLoop, Executor] = WeakKeyDictionary()


# The tasks that tear dependencies down.
_cleaning: WeakSet[asyncio.Task[Any]] = WeakSet()


def is_cleaning(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` tears dependencies down: leave it alone then, it ends in time by itself."""
    return task in _cleaning


class Cleanup:
    """The teardown of one connection's dependencies: nobody who asks `is_cleaning` cuts it short but itself.

    It has to run in the application's own task, where nothing else can shield it.
    """

    __slots__ = ("_task", "_timer", "expired")

    def __init__(self) -> None:
        # How often the teardown was cancelled because it took too long.
        self.expired = 0
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float | None) -> None:
        """From now on the running task tears down; what it waits for is cancelled every `seconds`."""
        self.end()
        self._task = asyncio.current_task()
        assert self._task is not None
        _cleaning.add(self._task)
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        assert self._task is not None
        self.expired += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(seconds, self._expire, seconds)

    def end(self) -> None:
        """The teardown is over, or what comes now may take its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            _cleaning.discard(self._task)
            self._task = None

    def take_back(self) -> bool:
        """Whether a cancellation that has come was for the teardown that took too long, and for no more."""
        expired, self.expired = self.expired, 0
        return expired > 0 and uncancel(expired)


def uncancel(times: int) -> bool:
    """Take cancellations of the running task back; whether there was no other."""
    task = asyncio.current_task()
    assert task is not None
    for _ in range(times):
        task.uncancel()
    return task.cancelling() == 0


class Concurrency:
    """How many calls of one dependency may run at a time in each event loop."""

    __slots__ = ("__weakref__", "_semaphores", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._semaphores = WeakKeyDictionary()

    def semaphore(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if loop not in self._semaphores:
            self._semaphores[loop] = asyncio.Semaphore(self.limit)
        return self._semaphores[loop]


def is_async(func: Any) -> bool:
    """Whether calling `func` gives something to await; looks through partials and at `__call__`."""
    while isinstance(func, functools.partial):
        func = func.func
    return iscoroutinefunction(func) or iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


@functools.cache
def _pool(purpose: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(conf.get("THREADS"), thread_name_prefix=f"fastws-{purpose}")


async def run_in_threadpool(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the sync `func`, run in a thread with a copy of the context variables.

    Django's database connections are cleaned around the call. When the caller is cancelled the thread
    has still been left before the cancellation goes on.
    """
    result, cancelled = await _finish("sync", functools.partial(func, *args, **kwargs))
    if cancelled is not None:
        raise cancelled
    return result


async def _finish(purpose: str, call: Callable[[], T]) -> tuple[T, asyncio.CancelledError | None]:
    """Run `call` in a thread and wait for it, also when cancelled meanwhile; gives the cancellation back."""
    loop = asyncio.get_running_loop()
    work = functools.partial(contextvars.copy_context().run, _without_stop_iteration, call)
    executor = thread_executors.get(loop)
    if executor is None:
        executor = _pool(purpose)
        work = functools.partial(_with_clean_connections, work)
    future = executor.submit(work)
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            return await asyncio.shield(asyncio.wrap_future(future)), cancelled
        except asyncio.CancelledError as exc:
            if future.cancel() or future.cancelled():  # it never began
                raise
            if future.done() and isinstance(future.exception(), asyncio.CancelledError):
                raise
            cancelled = exc
        except Exception:
            if cancelled is not None:
                raise cancelled
            raise


def _without_stop_iteration(call: Callable[[], T]) -> T:
    try:
        return call()
    except StopIteration as exc:  # no future can hold one
        raise RuntimeError("coroutine raised StopIteration") from exc


def _with_clean_connections(work: Callable[[], T]) -> T:
    """Django closes stale connections at a request's ends; a thread of ours has no requests."""
    if not _has_django():
        return work()
    db = sys.modules["django.db"]
    db.close_old_connections()
    try:
        return work()
    finally:
        db.close_old_connections()


# A connection of the thread that the async ORM shares is kept at least so long, as queries of many sockets
# take turns in it; CONN_MAX_AGE, which is 0 by default, comes on top.
REUSE = 60.0


async def close_stale_connections() -> None:
    """Do for the async ORM what Django does between two requests: drop broken and old connections.

    All async ORM calls of a process share one thread with one connection per database, and an endpoint
    may use it for hours.
    """
    from asgiref.sync import SyncToAsync, sync_to_async

    executor: Any = getattr(SyncToAsync, "single_thread_executor", None)
    unused = not getattr(executor, "_threads", True)
    if unused or not _has_django() or asyncio.get_running_loop() in thread_executors:
        return
    await sync_to_async(_close_stale, thread_sensitive=True)()


def _close_stale() -> None:
    """In the thread of the connections; one inside a transaction closes itself later."""
    for connection in sys.modules["django.db"].connections.all(initialized_only=True):
        expired = connection.close_at is not None and monotonic() >= connection.close_at + REUSE
        if expired or connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()


def reconnect_after_errors(sender: Any, connection: Any, **kwargs: Any) -> None:
    """Have a new connection of the async ORM replaced before the call that follows an error, if it is lost.

    Django does that between two requests, and in the thread that all sockets share there are none.
    """
    from asgiref.sync import SyncToAsync

    executor: Any = getattr(SyncToAsync, "single_thread_executor", None)
    if threading.current_thread() not in getattr(executor, "_threads", ()) or RECONNECTS in vars(connection):
        return
    ensure_connection = connection.ensure_connection

    def ensure() -> None:
        if connection.errors_occurred and connection.connection and not connection.in_atomic_block:
            connection.errors_occurred = False  # `is_usable` comes here again
            if not connection.is_usable():
                connection.close()
        ensure_connection()

    setattr(connection, RECONNECTS, True)
    connection.ensure_connection = ensure


# Marks a connection that replaces itself.
RECONNECTS = "_fastws_reconnects"


def _has_django() -> bool:
    return "django.db" in sys.modules and bool(sys.modules["django.conf"].settings.configured)


@asynccontextmanager
async def contextmanager_in_threadpool(cm: AbstractContextManager[T]) -> AsyncGenerator[T, None]:
    """The sync context manager `cm` as an asynchronous one; both its ends run in threads.

    The end has threads of its own: it may be what the threads of the beginnings wait for.
    """
    value, cancelled = await _finish("sync", cm.__enter__)
    try:
        if cancelled is not None:
            raise cancelled
        yield value
    except BaseException as exc:
        swallowed, _ = await _finish(
            "exit", functools.partial(cm.__exit__, type(exc), exc, exc.__traceback__)
        )
        if not swallowed:
            raise
    else:
        _, cancelled = await _finish("exit", functools.partial(cm.__exit__, None, None, None))
        if cancelled is not None:
            raise cancelled


async def iterate_in_threadpool(iterator: Iterable[T]) -> AsyncIterator[T]:
    """The items of a sync iterable, each fetched in a thread."""
    items = iter(iterator)
    end = object()
    while (item := await run_in_threadpool(next, items, end)) is not end:
        yield item  # type: ignore[misc]


async def run_until_first_complete(
    *args: tuple[Callable[..., Coroutine[Any, Any, Any]], dict[str, Any]],
) -> None:
    """Run coroutine functions side by side until the first returns; the others are cancelled (Starlette)."""
    warnings.warn(
        "run_until_first_complete is deprecated and will be removed in a future version.",
        StarletteDeprecationWarning,
        stacklevel=2,
    )
    async with asyncio.TaskGroup() as group:

        async def run(func: Callable[..., Coroutine[Any, Any, Any]], kwargs: dict[str, Any]) -> None:
            await func(**kwargs)
            for task in tasks:
                task.cancel()

        tasks = [group.create_task(run(func, kwargs)) for func, kwargs in args]
