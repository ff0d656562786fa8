"""The one thread that all async ORM calls share, and the database connections in it."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Executor, Future
from time import monotonic
from typing import Any

from asgiref import sync
from asgiref.sync import SyncToAsync

from fastws_compat.threads import databases
from fastws_compat.threads.pool import thread_executors

# How long to keep a connection of the shared thread beyond CONN_MAX_AGE, which is 0 by default: the queries
# of many sockets use it in turn.
REUSE = 60.0


async def close_stale_connections() -> None:
    """Close broken and expired connections of the async ORM, as Django does between two requests.

    All async ORM calls of a process share one thread with one connection per database, and an endpoint
    may use it for hours.
    """
    unused = _thread() is None
    if unused or not databases.has_django() or asyncio.get_running_loop() in thread_executors:
        return
    await sync.sync_to_async(_close_stale, thread_sensitive=True)()


def release() -> Future[None] | None:
    """Close the connections in the async ORM's thread, so that a test database can be dropped."""
    thread = _thread()
    return thread.submit(databases.close_idle) if thread is not None and databases.has_django() else None


def _thread() -> Executor | None:
    """The one thread that asgiref uses for the async ORM, if it has started."""
    executor: Any = getattr(SyncToAsync, "single_thread_executor", None)
    return executor if getattr(executor, "_threads", None) else None


def _close_stale() -> None:
    """Runs in the shared thread. Django keeps a connection open while it is in a transaction."""
    for connection in sys.modules["django.db"].connections.all(initialized_only=True):
        expired = connection.close_at is not None and monotonic() >= connection.close_at + REUSE
        if expired or connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()


def reconnect_after_errors(sender: Any, connection: Any, **kwargs: Any) -> None:
    """Let a new connection of the async ORM reconnect if it has been lost.

    Django does that between two requests, but the thread that all sockets share serves no requests.
    """
    executor: Any = _thread()
    if (
        executor is None
        or threading.current_thread() not in executor._threads
        or RECONNECTS in vars(connection)
    ):
        return
    ensure_connection = connection.ensure_connection

    def ensure() -> None:
        if connection.errors_occurred and connection.connection and not connection.in_atomic_block:
            connection.errors_occurred = False  # `is_usable` calls this function again
            if not connection.is_usable():
                connection.close()
        ensure_connection()

    setattr(connection, RECONNECTS, True)
    connection.ensure_connection = ensure


# The attribute that marks a connection that reconnects itself.
RECONNECTS = "_fastws_reconnects"
