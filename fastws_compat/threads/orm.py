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


# Whether a socket in a test may have left a connection open in the async ORM's thread.
lent_to_tests = False


def notice_tests() -> None:
    """In a test, have the last socket of a loop close the async ORM's connections; called for a new loop."""
    global lent_to_tests
    if databases.has_django() and databases.in_tests():
        from django.db.backends.signals import connection_created

        lent_to_tests = True
        connection_created.connect(_note_opened, dispatch_uid="fastws_compat.lent_to_tests")


def _note_opened(**kwargs: Any) -> None:
    global lent_to_tests
    lent_to_tests = True


def release_after_test() -> None:
    """Close the connections that the sockets of a test have used; those still in use, the next time."""
    global lent_to_tests
    lent_to_tests = False
    if (releasing := release()) is not None:
        releasing.add_done_callback(_keep_lent)


def _keep_lent(releasing: Future[bool]) -> None:
    global lent_to_tests
    lent_to_tests = lent_to_tests or releasing.exception() is not None or releasing.result()


def release() -> Future[bool] | None:
    """Close the connections in the async ORM's thread, so that a test database can be dropped.

    The result is whether a connection was in use and stays open.
    """
    thread = _thread()
    return thread.submit(databases.close_idle) if thread is not None and databases.has_django() else None


def _thread() -> Executor | None:
    """The one thread that asgiref uses for the async ORM, if it has started."""
    executor: Any = getattr(SyncToAsync, "single_thread_executor", None)
    return executor if getattr(executor, "_threads", None) else None


def _is_in_thread() -> bool:
    """Whether this runs in that thread, which may begin before its executor has noted that it has started."""
    prefix = getattr(getattr(SyncToAsync, "single_thread_executor", None), "_thread_name_prefix", None)
    return prefix is not None and threading.current_thread().name.startswith(f"{prefix}_")


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
    if not _is_in_thread() or RECONNECTS in vars(connection):
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
