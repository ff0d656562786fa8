"""The test client's event loop: in its own thread, with sync code brought back to the thread of the test."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from inspect import isawaitable
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync

from fastws_compat.testclient.pump import Pump
from fastws_compat.threads.pool import thread_executors

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop

# How many seconds an application may take to end once it is cancelled.
CANCEL_TIMEOUT = 5.0
# The loop runs this many times in one `turn`.
STEPS = 10
CLOSE_OLD = "close_if_unusable_or_obsolete"


class Portal:
    """An event loop in its own thread, whose thread-sensitive sync code runs in the creator's thread."""

    def __init__(self) -> None:
        executors = _asgiref_executors()
        self.pump = Pump()
        self.loop: Loop = asyncio.new_event_loop()
        self.users = 0
        self._closing = False
        self._ended = False
        self._leftover = 0
        self._before = dict(vars(SyncToAsync.threadlocal))
        # In an async test this thread runs the test's loop, and Django refuses queries in such a thread.
        self.sync_executor = _sync_executor()
        executors[self.loop] = self.sync_executor or self.pump
        if self.sync_executor is None:
            self._route_async_to_sync_here()
        else:
            thread_executors[self.loop] = self.sync_executor
        self._thread = threading.Thread(target=self._serve, name="fastws-testclient", daemon=True)
        self._thread.start()

    def _route_async_to_sync_here(self) -> None:
        """Run what the test calls through `async_to_sync` in the application's loop.

        Both then use the same in-memory channel layer, whose queues belong to one loop.
        """
        SyncToAsync.threadlocal.main_event_loop = self.loop
        SyncToAsync.threadlocal.main_event_loop_pid = os.getpid()

    def _serve(self) -> None:
        try:
            while not self._closing:
                with suppress(KeyboardInterrupt, SystemExit):  # raised in a task; the other tasks go on
                    self.loop.run_forever()
            self._leftover = self.loop.run_until_complete(_end_tasks())
        finally:
            self.loop.close()
            self._ended = True
            self.pump.wake()

    def share_database(self) -> None:
        """Run sync dependencies in the test's thread too, while other threads cannot use its database."""
        if threading.get_ident() != self.pump.thread:
            return
        if self.sync_executor is not None:
            self.sync_executor.submit(_keep_connections)
        elif any(map(_is_private, _keep_connections())):
            thread_executors[self.loop] = self.pump
        else:
            thread_executors.pop(self.loop, None)

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """The result of `func(*args)`, which runs in the event loop of the application."""
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError("This method cannot be called from the event loop thread")
        future = self.start_task_soon(func, *args)
        self.pump.run_until(future.done)
        return future.result()

    def start_task_soon(self, func: Callable[..., Any], *args: Any, name: str | None = None) -> Future[Any]:
        """Run `func(*args)` in a task of the event loop; the future has its result."""
        future = asyncio.run_coroutine_threadsafe(_call(func, args, name), self.loop)
        future.add_done_callback(lambda _: self.pump.wake())
        return future

    def turn(self) -> bool:
        """Let the loop run everything that is ready; False if the application blocks the loop."""
        return self.pump.run_until(self.start_task_soon(_steps).done, CANCEL_TIMEOUT)

    def close(self) -> None:
        """End every task, then the loop, then the thread."""
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.pump.run_until(lambda: self._ended, 2 * CANCEL_TIMEOUT)
        self.pump.shutdown()
        _asgiref_executors().pop(self.loop, None)
        thread_executors.pop(self.loop, None)
        if threading.get_ident() == self.pump.thread:
            vars(SyncToAsync.threadlocal).clear()
            vars(SyncToAsync.threadlocal).update(self._before)
            if self.sync_executor is None:
                _release_connections()
            else:
                self.sync_executor.submit(_release_connections)
        if not self._ended:
            raise RuntimeError(
                "The test client's loop does not end: the application blocks it or left a thread running."
            )
        self._thread.join()
        if self._leftover:
            raise RuntimeError(f"{self._leftover} task(s) of the application did not end when cancelled.")


async def _call(func: Callable[..., Any], args: Sequence[Any], name: str | None) -> Any:
    task = asyncio.current_task()
    if task is not None and name is not None:
        task.set_name(name)
    result = func(*args)
    return await result if isawaitable(result) else result


async def _steps() -> None:
    for _ in range(STEPS):
        await asyncio.sleep(0)


async def _end_tasks() -> int:
    """Cancel every task, wait for them, and return the number that did not end."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    pending = (await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT))[1] if tasks else set()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    return len(pending)


_current = threading.local()


@contextmanager
def open_portal() -> Iterator[Portal]:
    """This thread's portal, which opens for its first user and closes after its last.

    All open sockets of a test share it: the test waits for one of them at a time but has to run the sync code
    of all of them.
    """
    portal: Portal | None = getattr(_current, "portal", None)
    if portal is None or not portal.users:
        portal = _current.portal = Portal()
    with keep_open(portal):
        yield portal


@contextmanager
def keep_open(portal: Portal) -> Iterator[Portal]:
    """Keep a portal open even if its other users leave."""
    portal.users += 1
    try:
        yield portal
    finally:
        portal.users -= 1
        if not portal.users:
            portal.close()


def _sync_executor() -> Executor | None:
    """The executor for sync code of the async test that runs in this thread; None in a plain test."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    current: Executor | None = getattr(AsyncToSync.executors, "current", None)
    return current or _asgiref_executors().get(loop) or SyncToAsync.single_thread_executor


def in_sync_thread(call: Callable[[], T]) -> T:
    """Run sync code that uses the database and return its result; works in an async test too."""
    executor = _sync_executor()
    return call() if executor is None else executor.submit(call).result()


def _asgiref_executors() -> MutableMapping[Loop, Executor]:
    executors: Any = getattr(AsyncToSync, "loop_thread_executors", None)
    if not isinstance(executors, MutableMapping):
        raise RuntimeError(
            "TestClient needs asgiref's AsyncToSync.loop_thread_executors to run sync code in the test's "
            "thread, but the installed asgiref does not have it."
        )
    return executors


def _open_connections() -> list[Any]:
    """Django's database connections that are open in this thread; it opens none."""
    db, conf = sys.modules.get("django.db"), sys.modules.get("django.conf")
    if db is None or conf is None or not conf.settings.configured:
        return []
    connections = db.connections.all(initialized_only=True)
    return [connection for connection in connections if connection.connection is not None]


def _keep_connections() -> list[Any]:
    """Have the open connections of this thread stay open; returns them."""
    connections = _open_connections()
    for connection in connections:
        vars(connection).setdefault(CLOSE_OLD, _keep_connection)
    return connections


def _keep_connection() -> None:
    """Do nothing, where Django would close a stale connection: it belongs to the test."""


def _release_connections() -> None:
    """Undo `_keep_connections`."""
    for connection in _open_connections():
        vars(connection).pop(CLOSE_OLD, None)


def _is_private(connection: Any) -> bool:
    """Whether other threads cannot see the test's rows, or would collide with it.

    They do not see its open transaction, and an in-memory SQLite database locks whole tables.
    """
    if connection.in_atomic_block:
        return True
    in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    return in_memory and _is_allowed(connection)


def _is_allowed(connection: Any) -> bool:
    """Whether the test may use this open connection, which pytest-django denies to tests without `db`."""
    try:
        connection.ensure_connection()
    except RuntimeError:
        return False
    return True
