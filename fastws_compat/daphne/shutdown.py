"""How the server leaves: no new sockets, 1012 to the open ones, and time for what runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastws_compat.daphne.server import Server

logger = logging.getLogger("daphne.server")

SERVICE_RESTART = 1012

# The second after the grace, as it is shared out: cancelled applications, the lifespan, what is left over.
CANCELLED = 0.5
LIFESPAN = 0.2
LEFT_OVER = 0.1
# So long clients may take to answer the close frame when nothing else is waited for.
GOODBYE = 1.0


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
        logger.warning("Cancelled %i applications that did not end in time.", len(late))
        cancel(late)
        await wait(late, CANCELLED)
    await say_goodbye(server, min(GOODBYE, deadline - now()))
    await server.lifespan.shutdown(max(LIFESPAN, deadline - now()))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), LEFT_OVER)


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
