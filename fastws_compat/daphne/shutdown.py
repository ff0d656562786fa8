"""The server's shutdown: no new sockets, 1012 to the open ones, and time for running endpoints."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Protocol

from fastws_compat import health
from fastws_compat.concurrency import is_cleaning
from fastws_compat.daphne.lifespan import Lifespan

logger = logging.getLogger("daphne.server")

# The process exits within a second after the grace. Python itself needs a little of it; the rest is for the
# cleanup of cancelled applications, for cancelling them again, for the lifespan and for async generators.
SHUTDOWN_MARGIN = 0.9
CLEANUP_TIMEOUT = 0.3
CANCEL_TIMEOUTS = (0.1, 0.05)
MIN_LIFESPAN_TIMEOUT = 0.2
ASYNCGENS_TIMEOUT = 0.05
# How long a process has to exit normally if its deadline has already passed.
EXIT_TIMEOUT = 0.2
# How long clients may take to answer the close frame once every application has ended.
CLOSE_TIMEOUT = 1.0
# The maximum of `SHUTDOWN_GRACE` where a developer waits: on a reload of `runserver`, at the end of a test.
MAX_DEVELOPMENT_GRACE = 2.0


class Closable(Protocol):
    def close_for_restart(self) -> None: ...


class Stoppable(Protocol):
    """What a shutdown needs of the server."""

    lifespan: Lifespan
    ended: threading.Event
    emptied: asyncio.Event | None

    @property
    def websockets(self) -> Collection[Closable]: ...

    @property
    def grace(self) -> float: ...

    @property
    def drain_delay(self) -> float: ...

    @property
    def drain_spread(self) -> float: ...

    def stop(self) -> None: ...

    def stop_listening(self) -> None: ...

    def applications(self, http: bool = False) -> list[asyncio.Task[None]]: ...


async def drain(server: Stoppable, grace: float) -> None:
    """End every connection and every application within `grace` seconds and `SHUTDOWN_MARGIN`.

    The process is not ready from the beginning, but serves for `drain_delay` seconds; then it closes what is
    open over `drain_spread` seconds, and only after that the grace begins.
    """
    health.stop()
    if server.drain_delay:
        await asyncio.sleep(server.drain_delay)
    server.stop_listening()
    await close_all(server.websockets, server.drain_spread)
    now = asyncio.get_running_loop().time
    deadline = now() + grace
    cancel(server.applications(http=True))
    await wait(server.applications(), deadline - now())
    if late := server.applications():
        await cancel_late(late)
    await wait_for_clients(server, min(CLOSE_TIMEOUT, deadline - now()))
    left = max(MIN_LIFESPAN_TIMEOUT, deadline - now())
    with suppress(TimeoutError):
        await asyncio.wait_for(server.lifespan.shutdown(left), left + ASYNCGENS_TIMEOUT)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), ASYNCGENS_TIMEOUT)


async def close_all(websockets: Collection[Closable], seconds: float) -> None:
    """Close the sockets in random order, evenly over this time, so that the clients come back one by one."""
    left = list(websockets)
    random.shuffle(left)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number, websocket in enumerate(left):
        due = begun + seconds * number / len(left)
        if seconds and due > loop.time():
            await asyncio.sleep(due - loop.time())
        websocket.close_for_restart()


async def cancel_late(late: list[asyncio.Task[Any]]) -> None:
    """Cancel the applications that did not end in time; a cleanup in progress has a little longer.

    The setting `CLEANUP_TIMEOUT` would allow more, but the process must exit before it is killed.
    """
    logger.warning("Cancelled %i applications that did not end in time.", len(late))
    cancel(task for task in late if not is_cleaning(task))
    await wait(late, CLEANUP_TIMEOUT)
    # Each round cancels one cleanup that hangs, so that the next one of its application runs.
    for timeout in CANCEL_TIMEOUTS:
        late = [task for task in late if not task.done()]
        cancel(late)
        await wait(late, timeout)


async def wait_for_clients(server: Stoppable, timeout: float) -> None:
    """Wait until the clients have answered the close frames."""
    if server.websockets and timeout > 0:
        server.emptied = asyncio.Event()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.emptied.wait(), timeout)


def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


async def wait(tasks: Iterable[asyncio.Task[Any]], timeout: float) -> None:
    if tasks := list(tasks):
        await asyncio.wait(tasks, timeout=max(0, timeout))


def stop_at_exit(server: Stoppable) -> None:
    """Shut down a server that runs in a thread before the exit of the process ends that thread.

    `runserver` watches files in the main thread and exits from there, both for a reload and on Ctrl-C.
    """
    from twisted.internet import reactor

    def stop() -> None:
        if server.ended.is_set():
            return
        # After Ctrl-C the parent may send SIGTERM too; only a second Ctrl-C ends the wait.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reactor.callFromThread(server.stop)
        with suppress(KeyboardInterrupt):
            server.ended.wait(server.grace + SHUTDOWN_MARGIN + EXIT_TIMEOUT)

    # `atexit` is too late for cleanup that needs a thread: it runs after the executors have shut down.
    threading._register_atexit(stop)  # type: ignore[attr-defined]


def exit_by(deadline: float) -> None:
    """Once Python exits, end the process by the deadline, even if a busy thread would keep it alive."""
    exiting = threading.Event()

    def watch() -> None:
        if not exiting.wait(deadline - time.monotonic()):
            return
        time.sleep(max(0, deadline - time.monotonic()))
        if busy := [thread.name for thread in threading.enumerate() if blocks_exit(thread)]:
            logger.warning("Exited although these threads had not ended in time: %s", ", ".join(busy))
            sys.stdout.flush()
            os._exit(0)

    threading.Thread(target=watch, name="fastws-shutdown", daemon=True).start()
    # As in concurrent.futures: `atexit` callbacks run only after Python has joined the threads.
    threading._register_atexit(exiting.set)  # type: ignore[attr-defined]


def blocks_exit(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()
