"""Sync code off the event loop, safe for Django's database connections."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from contextlib import asynccontextmanager as asynccontextmanager
from importlib import import_module
from time import monotonic
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref import sync
from asgiref.sync import SyncToAsync, iscoroutinefunction

from fastws_compat import conf
from fastws_compat.connections.interrupt import is_cleaning as is_cleaning
from fastws_compat.exceptions import StarletteDeprecationWarning
from fastws_compat.threads import databases
from fastws_compat.threads.databases import has_django

P = ParamSpec("P")
T = TypeVar("T")


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


# Where the sync code of a loop runs instead of in the pool; the test client sends it to the thread
# that holds the test's transaction.
thread_executors: WeakKeyDictionary[asyncio.AbstractEventLoop, Executor] = WeakKeyDictionary()

# asgiref gives all its `Local` objects a context variable of this name.
LOCAL = "asgiref.local"
# From 3.12 on they know the thread that they belong to.
MOVES_LOCALS = hasattr(sync, "_rehome")
# Sets variables in the running context; those that are `Local` objects then belong to the running thread.
_set_locals: Any = sync._restore_context

# Sets `async_to_sync` up in the thread: it finds the loop that the thread works for.
_handler: Any = SyncToAsync(lambda: None, thread_sensitive=False)
_NO_EXCEPTION = (None, None, None)


class OwnThread(ThreadPoolExecutor):
    """One thread that belongs to a single owner, who may hold what is bound to a thread between two calls."""

    def __init__(self) -> None:
        super().__init__(1, thread_name_prefix="fastws-own")
        databases.count_references()
        # Calls that have not come back, and the database connections that are open after the last one.
        self.calls = 0
        self._opened = databases.NONE
        self.tenants: Mapping[str, Any] | None = None

    def run(self, journey: _Journey) -> Any:
        """In the thread."""
        try:
            return journey.run()
        finally:
            self._opened = databases.keep_held()

    def park(self) -> None:
        """The next call may be hours away: close the database connections that nothing is held in."""
        if self._opened.idle:
            self.submit(self._release)

    def _release(self) -> None:
        databases.release()
        self._opened = databases.NONE._replace(held=self._opened.held)

    def leave(self) -> None:
        """The owner needs the thread no more."""
        self.tenants = None
        if self.calls or any(self._opened) or len(_resting) >= conf.get("THREADS"):
            with suppress(RuntimeError):  # the interpreter ends
                self.submit(self._leave)
        else:
            _resting.append(self)

    def _leave(self) -> None:
        databases.tidy()
        self.calls, self._opened = 0, databases.NONE
        if len(_resting) < conf.get("THREADS"):
            _resting.append(self)
        else:
            databases.close()
            self.shutdown(wait=False)


# Threads without an owner; starting one takes longer than most calls.
_resting: deque[OwnThread] = deque()


@contextmanager
def own_thread() -> Iterator[Executor]:
    """A thread for the calls of the block alone. There is no limit: it may stay open as long as a socket."""
    executor = thread_executors.get(asyncio.get_running_loop())
    if executor is not None:
        yield executor
        return
    try:
        own = _resting.pop()
    except IndexError:
        own = OwnThread()
    try:
        yield own
    finally:
        own.leave()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(conf.get("THREADS"), thread_name_prefix="fastws-sync")


def _forget_threads() -> None:
    """In a forked process, as Channels' test server is one: the threads have stayed behind."""
    _pool.cache_clear()
    _resting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


async def call(
    executor: Executor | None, work: Callable[[], T], *, certainly: bool = False
) -> tuple[T, asyncio.CancelledError | None]:
    """Run `work` in the executor, or in the pool, and wait for it, also when cancelled meanwhile.

    Gives the cancellation back. Work that has not begun is dropped, unless it has to run `certainly`. The
    context variables are copied, as anyio does; asgiref's `Local` objects (Django's language and time zone)
    keep what the thread did to them, as with `sync_to_async`.
    """
    loop = asyncio.get_running_loop()
    tenants = await _tenants(executor) if databases.has_tenants() else {}
    journey = _Journey(loop, work, tenants)
    future = _submit(executor or thread_executors.get(loop), journey)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        back = loop.create_future()
        future.add_done_callback(functools.partial(_wake, back))
        try:
            await back
        except asyncio.CancelledError as exc:
            if not certainly and future.cancel():
                break
            cancelled = exc
            journey.cancel()
    journey.come_back()
    if isinstance(executor, OwnThread):
        executor.calls -= 1
    if future.cancelled() or (cancelled is not None and future.exception() is not None):
        raise cancelled or asyncio.CancelledError
    return future.result(), cancelled


async def _tenants(executor: Executor | None) -> Mapping[str, Any]:
    """The tenants that `database_sync_to_async` sees: of the thread that middleware sets them in.

    What a thread of its own begins for a tenant, it ends for the same.
    """
    if executor is None and asyncio.get_running_loop() in thread_executors:
        return {}  # the test's thread is both
    if not isinstance(executor, OwnThread):
        return await sync.sync_to_async(databases.tenants)() if executor is None else {}
    if executor.tenants is None:
        executor.tenants = await sync.sync_to_async(databases.tenants)()
    return executor.tenants


def _submit(executor: Executor | None, journey: _Journey) -> Future[Any]:
    if executor is None:
        return _pool().submit(_in_pool, journey)
    if isinstance(executor, OwnThread):
        executor.calls += 1
        return executor.submit(executor.run, journey)
    return executor.submit(journey.run)


def _wake(back: asyncio.Future[None], _: Future[Any]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        back.get_loop().call_soon_threadsafe(_set, back)


def _set(back: asyncio.Future[None]) -> None:
    if not back.done():
        back.set_result(None)


class _Journey:
    """One call into a thread."""

    __slots__ = ("_context", "_inner", "_loop", "_tenants", "_work", "changed")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any], tenants: Mapping[str, Any]
    ) -> None:
        self._loop = loop
        self._work = work
        self._tenants = tenants
        self._context = contextvars.copy_context()
        # The task that asgiref runs for an `async_to_sync` in the thread.
        self._inner: list[asyncio.Task[Any]] = []
        # The `Local` objects that the thread has set.
        self.changed: dict[contextvars.ContextVar[Any], Any] | None = None

    def run(self) -> Any:
        """In the thread."""
        return _handler.thread_handler(
            self._loop, _NO_EXCEPTION, self._inner, self._context.run, self._arrived
        )

    def _arrived(self) -> Any:
        if MOVES_LOCALS:
            _set_locals(_locals(self._context))
        if self._tenants:
            databases.set_tenants(self._tenants)
        home = contextvars.copy_context()
        lent = databases.lend_caches()
        given = _locals(self._context)
        try:
            return self._worked()
        except StopIteration as exc:  # no future can hold one
            raise RuntimeError("coroutine raised StopIteration") from exc
        finally:
            self._find_changed(given)
            if self.changed:
                lent |= databases.new_caches(home)
            if lent:
                databases.take_caches_back(lent)
            if lent and self.changed:
                self._find_changed(given)

    def _worked(self) -> Any:
        anyio = import_module("anyio._core._eventloop") if "anyio" in sys.modules else None
        if anyio is None or not hasattr(anyio, "get_async_backend"):  # before anyio 4
            return self._work()
        # As in a thread of anyio's, so that `anyio.from_thread` finds the loop.
        with anyio.claim_worker_thread(anyio.get_async_backend("asyncio"), self._loop):
            anyio.threadlocals.current_cancel_scope = None
            return self._work()

    def _find_changed(self, given: Mapping[contextvars.ContextVar[Any], Any]) -> None:
        now = _locals(self._context)
        self.changed = {
            variable: now[variable] for variable in now if given.get(variable) is not now[variable]
        }

    def cancel(self) -> None:
        """Cancel what the thread has the loop do for it; the thread itself cannot be stopped."""
        for task in self._inner:
            task.cancel()

    def come_back(self) -> None:
        """In the caller's context: take over the `Local` objects that have changed."""
        if self.changed:
            _set_locals(self.changed)


def _locals(context: contextvars.Context) -> dict[contextvars.ContextVar[Any], Any]:
    return {variable: value for variable, value in context.items() if variable.name == LOCAL}


def _in_pool(journey: _Journey) -> Any:
    """Django closes stale connections at a request's ends; a thread of ours has no requests."""
    databases.tidy()
    try:
        return journey.run()
    finally:
        databases.tidy()


async def run_in_threadpool(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the sync `func`, run in a thread with a copy of the context variables.

    Django's database connections are cleaned around the call. When the caller is cancelled the thread
    has still been left before the cancellation goes on.
    """
    return await run_in(None, functools.partial(func, *args, **kwargs))


async def run_in(executor: Executor | None, work: Callable[[], T]) -> T:
    """The same in a thread of the caller's choice."""
    result, cancelled = await call(executor, work)
    if cancelled is not None:
        raise cancelled
    return result


# A connection of the thread that the async ORM shares is kept at least so long, as queries of many sockets
# take turns in it; CONN_MAX_AGE, which is 0 by default, comes on top.
REUSE = 60.0


async def close_stale_connections() -> None:
    """Do for the async ORM what Django does between two requests: drop broken and old connections.

    All async ORM calls of a process share one thread with one connection per database, and an endpoint
    may use it for hours.
    """
    unused = _orm_thread() is None
    if unused or not has_django() or asyncio.get_running_loop() in thread_executors:
        return
    await sync.sync_to_async(_close_stale, thread_sensitive=True)()


def release_orm_thread() -> Future[None] | None:
    """Have the async ORM's thread close its connections, so that a test database can be dropped."""
    thread = _orm_thread()
    return thread.submit(databases.release) if thread is not None and has_django() else None


def _orm_thread() -> Executor | None:
    """asgiref's one thread, if it was used."""
    executor: Any = getattr(SyncToAsync, "single_thread_executor", None)
    return executor if getattr(executor, "_threads", None) else None


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


@asynccontextmanager
async def contextmanager_in_threadpool(cm: AbstractContextManager[T]) -> AsyncGenerator[T, None]:
    """The sync context manager `cm` as an asynchronous one; both its ends run in one thread of its own."""
    with own_thread() as thread:
        async with contextmanager_in(thread, cm) as value:
            yield value


@asynccontextmanager
async def contextmanager_in(executor: Executor, cm: AbstractContextManager[T]) -> AsyncGenerator[T, None]:
    """The same in a thread of the caller's choice."""
    value, cancelled = await call(executor, cm.__enter__)
    try:
        if cancelled is not None:
            raise cancelled
        yield value
    except BaseException as exc:
        leave = functools.partial(cm.__exit__, type(exc), exc, exc.__traceback__)
        swallowed, _ = await call(executor, leave, certainly=True)
        if not swallowed:
            raise
    else:
        leave = functools.partial(cm.__exit__, None, None, None)
        _, cancelled = await call(executor, leave, certainly=True)
        if cancelled is not None:
            raise cancelled


async def iterate_in_threadpool(iterator: Iterable[T]) -> AsyncIterator[T]:
    """The items of a sync iterable, all fetched in one thread."""
    items = iter(iterator)
    end: Any = object()
    with own_thread() as thread:
        while (item := await run_in(thread, functools.partial(next, items, end))) is not end:
            yield item


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
