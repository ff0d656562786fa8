"""The threads that run sync code: a pool, and threads with a single owner."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref import sync

from fastws_compat import conf
from fastws_compat.threads import databases
from fastws_compat.threads.calls import ThreadCall

T = TypeVar("T")

# Where the sync code of a loop runs instead of the pool. The test client sets the thread that holds the
# test's transaction.
thread_executors: WeakKeyDictionary[asyncio.AbstractEventLoop, Executor] = WeakKeyDictionary()


class OwnThread(ThreadPoolExecutor):
    """One thread with a single owner, which may keep thread-bound objects open between two calls."""

    def __init__(self) -> None:
        super().__init__(1, thread_name_prefix="fastws-own")
        databases.count_references()
        # Unfinished calls, and the database connections that are open after the latest one.
        self.calls = 0
        self._opened = databases.NONE
        self.tenants: Mapping[str, Any] | None = None

    def run(self, thread_call: ThreadCall) -> Any:
        """Make the call. Runs in the thread."""
        try:
            return thread_call.run()
        finally:
            self._opened = databases.keep_held()

    def park(self) -> None:
        """Close idle database connections, because the next call may be hours away."""
        if self._opened.idle:
            self.submit(self._close_idle)

    def _close_idle(self) -> None:
        databases.close_idle()
        self._opened = databases.NONE._replace(held=self._opened.held)

    def release(self) -> None:
        """Make the thread available again, because the owner no longer needs it."""
        self.tenants = None
        if self.calls or any(self._opened) or not self._wait_for_owner():
            with suppress(RuntimeError):  # the interpreter is shutting down
                self.submit(self._clean_and_release)

    def _wait_for_owner(self) -> bool:
        """Join the threads without an owner; False if there are enough. May be called in any thread."""
        with _unowned_lock:
            if len(_unowned) >= conf.get("THREADS"):
                return False
            _unowned.append(self)
            return True

    def _clean_and_release(self) -> None:
        databases.clean_up()
        self.calls, self._opened = 0, databases.NONE
        if not self._wait_for_owner():
            databases.close()
            self.shutdown(wait=False)


# Threads without an owner, kept because starting a thread takes longer than most calls.
_unowned: deque[OwnThread] = deque()
_unowned_lock = threading.Lock()


@contextmanager
def own_thread() -> Iterator[Executor]:
    """A thread for the block alone. Their number is unlimited: a block may last as long as a socket."""
    executor = thread_executors.get(asyncio.get_running_loop())
    if executor is not None:
        yield executor
        return
    try:
        own = _unowned.pop()
    except IndexError:
        own = OwnThread()
    try:
        yield own
    finally:
        own.release()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(conf.get("THREADS"), thread_name_prefix="fastws-sync")


def _forget_threads() -> None:
    """Drop the threads after a fork, which does not copy them (Channels' test server forks)."""
    global _unowned_lock
    _pool.cache_clear()
    _unowned.clear()
    _unowned_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows does not have it
    os.register_at_fork(after_in_child=_forget_threads)


def _in_pool(thread_call: ThreadCall) -> Any:
    """Close stale connections around the call, as Django does at the start and end of a request."""
    databases.clean_up()
    try:
        return thread_call.run()
    finally:
        databases.clean_up()


async def call(
    executor: Executor | None, work: Callable[[], T], *, must_run: bool = False
) -> tuple[T, asyncio.CancelledError | None]:
    """Run `work` in the executor, or in the pool, and wait until it ends, even if the caller is cancelled.

    Returns the result and the cancellation. A cancellation drops work that has not started, unless it
    `must_run`. Context variables are copied, as anyio does; changes to asgiref's `Local` objects
    (Django's language and time zone) reach the caller, as with `sync_to_async`.
    """
    loop = asyncio.get_running_loop()
    tenants = await _tenants(executor) if databases.has_tenants() else {}
    thread_call = ThreadCall(loop, work, tenants)
    future = _submit(executor or thread_executors.get(loop), thread_call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        back = loop.create_future()
        future.add_done_callback(functools.partial(_wake, back))
        try:
            await back
        except asyncio.CancelledError as exc:
            if not must_run and future.cancel():
                break
            cancelled = exc
            thread_call.cancel()
    thread_call.copy_locals_back()
    if isinstance(executor, OwnThread):
        executor.calls -= 1
    if future.cancelled() or (cancelled is not None and future.exception() is not None):
        raise cancelled or asyncio.CancelledError
    return future.result(), cancelled


async def _tenants(executor: Executor | None) -> Mapping[str, Any]:
    """The tenants that `database_sync_to_async` sees: those of the thread in which middleware sets them.

    A thread with an owner keeps the tenants of its first call, so that cleanup uses the same ones.
    """
    if executor is None and asyncio.get_running_loop() in thread_executors:
        return {}  # the test's thread is also the one in which middleware runs
    if not isinstance(executor, OwnThread):
        return await sync.sync_to_async(databases.tenants)() if executor is None else {}
    if executor.tenants is None:
        executor.tenants = await sync.sync_to_async(databases.tenants)()
    return executor.tenants


def _submit(executor: Executor | None, thread_call: ThreadCall) -> Future[Any]:
    if executor is None:
        return _pool().submit(_in_pool, thread_call)
    if isinstance(executor, OwnThread):
        executor.calls += 1
        return executor.submit(executor.run, thread_call)
    return executor.submit(thread_call.run)


def _wake(back: asyncio.Future[None], _: Future[Any]) -> None:
    with suppress(RuntimeError):  # the loop is closed, so no task is waiting
        back.get_loop().call_soon_threadsafe(_set, back)


def _set(back: asyncio.Future[None]) -> None:
    if not back.done():
        back.set_result(None)


async def run_in(executor: Executor | None, work: Callable[[], T]) -> T:
    """The result of the sync `work`, run in the executor, or in the pool if it is None."""
    result, cancelled = await call(executor, work)
    if cancelled is not None:
        raise cancelled
    return result


@asynccontextmanager
async def contextmanager_in(executor: Executor, cm: AbstractContextManager[T]) -> AsyncGenerator[T, None]:
    """The sync context manager `cm` as an asynchronous one; the executor runs its entry and exit."""
    value, cancelled = await call(executor, cm.__enter__)
    try:
        if cancelled is not None:
            raise cancelled
        yield value
    except BaseException as exc:
        leave = functools.partial(cm.__exit__, type(exc), exc, exc.__traceback__)
        swallowed, _ = await call(executor, leave, must_run=True)
        if not swallowed:
            raise
    else:
        leave = functools.partial(cm.__exit__, None, None, None)
        _, cancelled = await call(executor, leave, must_run=True)
        if cancelled is not None:
            raise cancelled
