"""How the server leaves: no new sockets, 1012 to the open ones, and time for what runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastws_compat.concurrency import is_cleaning

if TYPE_CHECKING:
    from fastws_compat.daphne.server import Server

logger = logging.getLogger("daphne.server")

SERVICE_RESTART = 1012

# The process has left within a second after the grace; Python itself needs a bit of it. The rest goes to the
# cleanup of what was cancelled, to cancelling again what still runs, to the lifespan, to what is left over.
LAST_SECOND = 0.9
CLEANUP = 0.3
INSISTING = (0.1, 0.05)
LIFESPAN = 0.2
LEFT_OVER = 0.05
# A process whose time is up already still gets so long to exit in order.
MOMENT = 0.2
# So long clients may take to answer the close frame when nothing else is waited for.
GOODBYE = 1.0
# The maximum of `SHUTDOWN_GRACE` where a developer waits: on a reload of `runserver`, at the end of a test.
DEVELOPMENT_GRACE = 2.0


async def drain(server: Server, grace: float) -> None:
    """End every connection and every application within `grace` and a second."""
    now = asyncio.get_running_loop().time
    deadline = now() + grace
    server.stop_listening()
    for websocket in list(server.websockets):
        websocket.shut(SERVICE_RESTART)
    cancel(server.applications(http=True))
    await wait(server.applications(), deadline - now())
    if late := server.applications():
        await insist(late)
    await say_goodbye(server, min(GOODBYE, deadline - now()))
    left = max(LIFESPAN, deadline - now())
    with suppress(TimeoutError):
        await asyncio.wait_for(server.lifespan.shutdown(left), left + LEFT_OVER)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), LEFT_OVER)


async def insist(late: list[asyncio.Task[Any]]) -> None:
    """Cancel what did not end in time; a cleanup that is under way has a moment more.

    `CLEANUP_TIMEOUT` would give it longer, but the process must have left before it is killed.
    """
    logger.warning("Cancelled %i applications that did not end in time.", len(late))
    cancel(task for task in late if not is_cleaning(task))
    await wait(late, CLEANUP)
    # Each time a cleanup that hangs ends, and the next one runs.
    for patience in INSISTING:
        late = [task for task in late if not task.done()]
        cancel(late)
        await wait(late, patience)


async def say_goodbye(server: Server, timeout: float) -> None:
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


def stop_at_exit(server: Server) -> None:
    """Shut a server down that runs in a thread, before the process that exits kills the thread.

    `runserver` watches files in the main thread and exits there, for a reload as for Ctrl-C.
    """
    from twisted.internet import reactor

    def stop() -> None:
        if server.ended.is_set():
            return
        # The parent process may send both Ctrl-C and this; a second Ctrl-C is meant.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reactor.callFromThread(server.stop)
        with suppress(KeyboardInterrupt):
            server.ended.wait(server.grace + LAST_SECOND + MOMENT)

    # `atexit` would be too late for cleanup that needs a thread: it comes after the executors have closed.
    threading._register_atexit(stop)  # type: ignore[attr-defined]


def leave_by(deadline: float) -> None:
    """If Python exits now, have the process gone by then: it would wait without end for a thread at work."""
    exiting = threading.Event()

    def watch() -> None:
        if not exiting.wait(deadline - time.monotonic()):
            return
        time.sleep(max(0, deadline - time.monotonic()))
        if busy := [thread.name for thread in threading.enumerate() if is_waited_for(thread)]:
            logger.warning("Left threads behind that did not end in time: %s", ", ".join(busy))
            sys.stdout.flush()
            os._exit(0)

    threading.Thread(target=watch, name="fastws-leave", daemon=True).start()
    # As concurrent.futures does; what `atexit` knows comes after the waiting.
    threading._register_atexit(exiting.set)  # type: ignore[attr-defined]


def is_waited_for(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()
