"""The test client's event loop: in a thread of its own, with a way back to the test's thread."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync

from fastws_compat.concurrency import is_cleaning, thread_executors
from fastws_compat.types import ASGIApp, Message, Scope

P = ParamSpec("P")
T = TypeVar("T")
Loop = asyncio.AbstractEventLoop

# How long, in seconds, an application may take to end once it is cancelled.
PATIENCE = 5.0
# How long it may work on after the end of its connection before it is cancelled, which is then an error.
GRACE = 30.0
# An application that makes no progress in so many turns of so many steps waits for something outside.
IDLE_TURNS, STEPS = 3, 10
# Added to a time-out in an async test.
BLOCKED = (
    "TestClient blocks the event loop of an async test while it waits, so nothing else ran in that loop: "
    "make the test a plain function, or use WebsocketCommunicator of channels.testing."
)
CLOSE_OLD = "close_if_unusable_or_obsolete"


class Pump(Executor):
    """Runs submitted work in the thread that made the pump, whenever that thread waits in `run_until`."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._changed = threading.Condition()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._closed = False
        self.performed = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        work = functools.partial(fn, *args, **kwargs)
        if threading.get_ident() == self.thread:  # nobody else would ever run it
            _perform(future, work)
            return future
        with self._changed:
            if self._closed:
                raise RuntimeError("The test client is closed: no thread is left to run sync code for it.")
            self._work.append((future, work))
            self._changed.notify_all()
        return future

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Run what is submitted until `done()`; False after `timeout` seconds of nothing but waiting."""
        left = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        own = threading.get_ident() == self.thread
        while True:
            began = time.monotonic()
            with self._changed:
                if not self._changed.wait_for(lambda: (own and bool(self._work)) or done(), left):
                    return False
                if not (own and self._work):
                    return True
                future, work = self._work.popleft()
            left -= time.monotonic() - began
            self.performed += 1
            _perform(future, work)

    def wake(self) -> None:
        """Have the waiting thread look at its condition again."""
        with self._changed:
            self._changed.notify_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        with self._changed:
            self._closed = True
            while self._work:
                self._work.popleft()[0].cancel()


def _perform(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except (KeyboardInterrupt, SystemExit):
        # These are the test's; in a task they would stop the application's loop.
        future.set_exception(CancelledError())
        raise
    except BaseException as exc:
        future.set_exception(exc)
    else:
        future.set_result(result)


class Portal:
    """An event loop in a thread, whose thread-sensitive sync code comes back to the thread that made it."""

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
            self._lead_async_to_sync_here()
        else:
            thread_executors[self.loop] = self.sync_executor
        self._thread = threading.Thread(target=self._serve, name="fastws-testclient", daemon=True)
        self._thread.start()

    def _lead_async_to_sync_here(self) -> None:
        """What the test calls through `async_to_sync` runs in the application's loop.

        So both see the same in-memory channel layer, whose queues belong to one loop.
        """
        SyncToAsync.threadlocal.main_event_loop = self.loop
        SyncToAsync.threadlocal.main_event_loop_pid = os.getpid()

    def _serve(self) -> None:
        try:
            while not self._closing:
                with suppress(KeyboardInterrupt, SystemExit):  # of a task; the others go on
                    self.loop.run_forever()
            self._leftover = self.loop.run_until_complete(_end_tasks())
        finally:
            self.loop.close()
            self._ended = True
            self.pump.wake()

    def share_database(self) -> None:
        """Send sync dependencies too to the test's thread, while its database is closed to other threads."""
        if self.sync_executor is not None or threading.get_ident() != self.pump.thread:
            return
        connections = _open_connections()
        for connection in connections:
            vars(connection).setdefault(CLOSE_OLD, _keep)
        if any(map(_is_private, connections)):
            thread_executors[self.loop] = self.pump
        else:
            thread_executors.pop(self.loop, None)

    def turn(self) -> bool:
        """Let the loop run what is ready; False if the application blocks it."""
        future = asyncio.run_coroutine_threadsafe(_steps(), self.loop)
        future.add_done_callback(lambda _: self.pump.wake())
        return self.pump.run_until(future.done, PATIENCE)

    def close(self) -> None:
        """End every task, then the loop, then the thread."""
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.pump.run_until(lambda: self._ended, 2 * PATIENCE)
        self.pump.shutdown()
        _asgiref_executors().pop(self.loop, None)
        thread_executors.pop(self.loop, None)
        if threading.get_ident() == self.pump.thread:
            vars(SyncToAsync.threadlocal).clear()
            vars(SyncToAsync.threadlocal).update(self._before)
            for connection in _open_connections():
                vars(connection).pop(CLOSE_OLD, None)
        if not self._ended:
            raise RuntimeError(
                "The test client's loop does not end: the application blocks it, or left a thread at work."
            )
        self._thread.join()
        if self._leftover:
            raise RuntimeError(f"{self._leftover} task(s) of the application did not end when cancelled.")


async def _steps() -> None:
    for _ in range(STEPS):
        await asyncio.sleep(0)


async def _end_tasks() -> int:
    """Cancel every task and wait for it; the number of those that do not end."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    pending = (await asyncio.wait(tasks, timeout=PATIENCE))[1] if tasks else set()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    return len(pending)


_current = threading.local()


@contextmanager
def open_portal() -> Iterator[Portal]:
    """This thread's portal: made for its first user, closed after its last.

    All sockets that a test has open share it, because the test waits for one of them at a time but
    has to run the sync code of all of them.
    """
    portal: Portal | None = getattr(_current, "portal", None)
    if portal is None or not portal.users:
        portal = _current.portal = Portal()
    with use(portal):
        yield portal


@contextmanager
def use(portal: Portal) -> Iterator[Portal]:
    """Keep a portal open that somebody else may leave first."""
    portal.users += 1
    try:
        yield portal
    finally:
        portal.users -= 1
        if not portal.users:
            portal.close()


class Conversation:
    """An application that runs in a portal, and what it and the test say to each other."""

    def __init__(self, portal: Portal, app: ASGIApp, scope: Scope) -> None:
        self.ended = False
        self.idle = False
        self.exception: BaseException | None = None
        self._portal = portal
        self._app = app
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: deque[Message] = deque()
        self._receiving = 0
        self._last: str | None = None
        self._has_closed = False
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None
        portal.share_database()
        portal.loop.call_soon_threadsafe(self._start, context=copy_context())

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._finished)

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.exception = task.exception()
        elif not self._cancelled:
            self.exception = asyncio.CancelledError()
        self.ended = True
        self._portal.pump.wake()

    async def _receive(self) -> Message:
        self._receiving += 1
        self._look()
        try:
            message = await self._inbox.get()
            self._last = message["type"]
        finally:
            self._receiving -= 1
            self._look()
        return message

    def _look(self) -> None:
        """Note whether the application waits for a message; only the loop's thread may tell."""
        self.idle = self._receiving > 0 and self._inbox.empty()
        if self.idle:
            self._portal.pump.wake()

    def _deliver(self, message: Message) -> None:
        self._inbox.put_nowait(message)
        self._look()

    async def _send(self, message: Message) -> None:
        if self.ended:
            raise OSError("The test has closed this connection.")
        await asyncio.sleep(0)  # an application that only sends must not keep the loop for itself
        self._has_closed = self._has_closed or _is_last(message)
        self._portal.loop.call_soon_threadsafe(self._show, message)

    def _show(self, message: Message) -> None:
        """Let the test see a message; called once the application that sent it waits for something.

        So a test that has received a message finds all done that the application does up to there.
        """
        self._outbox.append(message)
        self._portal.pump.wake()

    def put(self, message: Message) -> None:
        """Send a message to the application, unless it has ended."""
        if not self.ended:
            self._portal.loop.call_soon_threadsafe(self._deliver, message)

    def get(self, expected: str, timeout: float | None) -> Message | None:
        """The next message of the application; None if it has returned, its exception if it has died."""
        self._portal.pump.run_until(lambda: bool(self._outbox) or self.ended, timeout)
        if self._outbox:
            return self._outbox.popleft()
        if self.exception is not None:
            raise self.exception
        if self.ended:
            return None
        state = "waits for a message from the test" if self.idle else "is still at work"
        blocked = "" if self._portal.sync_executor is None else f" {BLOCKED}"
        raise TimeoutError(f"{self} sent no {expected} within {timeout} s; it {state}.{blocked}")

    def settle(self) -> None:
        """Wait until the application has taken what it was sent, or waits for something else."""
        turns, state = 0, None
        while self._portal.turn() and turns < IDLE_TURNS and not (self.ended or self.idle):
            before, state = state, (self._inbox.qsize(), self._portal.pump.performed)
            turns = turns + 1 if state == before else 0

    def finish(self, grace: float) -> bool:
        """Let the application end within `grace` seconds, unless it waits for messages; then cancel it.

        False if it was still at work when its time was over. Dependencies may always clean up.
        """
        pump = self._portal.pump
        waited = not grace or pump.run_until(lambda: self.ended or self.idle, grace)
        if is_cleaning(self._task):
            waited = pump.run_until(lambda: self.ended, GRACE)
        if self.ended:
            return True
        self._portal.loop.call_soon_threadsafe(self._cancel)
        if not pump.run_until(lambda: self.ended, PATIENCE):
            raise RuntimeError(f"{self} did not end within {PATIENCE} s of being cancelled.")
        return waited

    def took(self, kind: str) -> bool:
        """Whether a message of this type is the last that the application received."""
        return self._last == kind

    @property
    def is_over(self) -> bool:
        """Whether the application knows that the connection is over: it has closed it, or was told."""
        return self._has_closed or (self.took("websocket.disconnect") and not self._is_unaware)

    @property
    def _is_unaware(self) -> bool:
        """Whether the disconnect was received on behalf of an endpoint that was not told yet."""
        from fastws_compat.connections.registry import connections_of

        return any(session.is_unaware for session in connections_of(self._portal.loop, self._task))

    def _cancel(self) -> None:
        assert self._task is not None
        self._cancelled = True
        self._task.cancel()

    def __str__(self) -> str:
        endpoint = self._scope.get("endpoint")
        name = getattr(endpoint, "__name__", type(endpoint).__name__)
        where = self._scope.get("path", self._scope["type"])
        return f"The application at {where}" + (f" (endpoint {name})" if endpoint is not None else "")


def _sync_executor() -> Executor | None:
    """Where an async test that runs in this thread has its own sync code run; None in a plain test."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    current: Executor | None = getattr(AsyncToSync.executors, "current", None)
    return current or _asgiref_executors().get(loop) or SyncToAsync.single_thread_executor


def in_sync_thread(call: Callable[[], T]) -> T:
    """The result of sync code that uses the database, also in an async test."""
    executor = _sync_executor()
    return call() if executor is None else executor.submit(call).result()


def _is_last(message: Message) -> bool:
    """Whether an application ends its connection with a message."""
    kind = message["type"]
    return kind == "websocket.close" or (
        kind == "websocket.http.response.body" and not message.get("more_body", False)
    )


def _asgiref_executors() -> MutableMapping[Loop, Executor]:
    executors: Any = getattr(AsyncToSync, "loop_thread_executors", None)
    if not isinstance(executors, MutableMapping):
        raise RuntimeError(
            "TestClient needs asgiref's AsyncToSync.loop_thread_executors to run sync code in the test's "
            "thread, and the installed asgiref does not have it."
        )
    return executors


def _open_connections() -> list[Any]:
    """The database connections of Django's that this thread has open; opens none."""
    db, conf = sys.modules.get("django.db"), sys.modules.get("django.conf")
    if db is None or conf is None or not conf.settings.configured:
        return []
    connections = db.connections.all(initialized_only=True)
    return [connection for connection in connections if connection.connection is not None]


def _keep() -> None:
    """Instead of closing a stale connection: it is the test's, and the application would close it."""


def _is_private(connection: Any) -> bool:
    """Whether other threads would not see the test's rows, or collide with it.

    They do not see its transaction, and an SQLite database in memory locks whole tables at once.
    """
    if connection.in_atomic_block:
        return True
    in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    return in_memory and _is_allowed(connection)


def _is_allowed(connection: Any) -> bool:
    """Whether the test may use this open connection; pytest-django refuses it to tests without `db`."""
    try:
        connection.ensure_connection()
    except RuntimeError:
        return False
    return True
