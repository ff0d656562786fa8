"""Django's database and cache connections in threads that serve one call after another."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from functools import cache
from typing import Any, NamedTuple

from fastws_compat.logger import logger
from fastws_compat.modules import loaded


def has_django() -> bool:
    return loaded("django.db") is not None and bool(sys.modules["django.conf"].settings.configured)


def _opened() -> list[Any]:
    """Django's wrappers of this thread's database connections; creates none."""
    return sys.modules["django.db"].connections.all(initialized_only=True) if has_django() else []


def has_tenants() -> bool:
    """Whether a database has a tenant per thread, as with django-tenants."""
    return has_django() and bool(_with_tenants())


@cache
def _with_tenants() -> tuple[str, ...]:
    from django.db import connections
    from django.db.utils import load_backend

    engines = {alias: load_backend(connections.settings[alias]["ENGINE"]) for alias in connections}
    return tuple(alias for alias, engine in engines.items() if hasattr(engine.DatabaseWrapper, "set_tenant"))


def tenants() -> dict[str, Any]:
    """The tenants of this thread."""
    connections = sys.modules["django.db"].connections
    return {alias: connections[alias].tenant for alias in _with_tenants()}


def set_tenants(wanted: Mapping[str, Any]) -> None:
    """Set the tenants of this thread. Every call sets its own, so none sees another's."""
    connections = sys.modules["django.db"].connections
    for alias, tenant in wanted.items():
        if connections[alias].tenant is not tenant:
            connections[alias].set_tenant(tenant)


def clean_up() -> None:
    """Clean up between two unrelated calls, as Django does between two requests.

    A transaction that is still open is rolled back, because its owner is gone.
    """
    for connection in _opened():
        if _in_transaction(connection):
            _roll_back(connection)
        elif connection.connection is not None:
            _close_if_old(connection)


class Opened(NamedTuple):
    """Which connections are open: held ones have a transaction or a cursor, idle ones do not."""

    held: bool = False
    idle: bool = False


NONE = Opened()


def keep_held() -> Opened:
    """Clean up between two calls of one owner. Held connections stay open; idle ones may be closed."""
    held = idle = False
    for connection in _opened():
        if _is_held(connection):
            held = True
        elif connection.connection is not None:
            _close_if_old(connection)
            idle = idle or connection.connection is not None
    return Opened(held, idle) if held or idle else NONE


def close_lost() -> bool:
    """Close the connections that the database has dropped; whether there were any."""
    lost = [
        connection
        for connection in _opened()
        if connection.connection is not None
        and connection.errors_occurred
        and not connection.in_atomic_block
        and not connection.is_usable()
    ]
    for connection in lost:
        connection.close()
    return bool(lost)


def _close_if_old(connection: Any) -> None:
    if in_tests():
        # A test database cannot be dropped while a connection to it is open. SQLite's in-memory databases
        # stay open, and pytest-django forbids their other methods to a test without a mark.
        connection.close()
    else:
        connection.close_if_unusable_or_obsolete()


def close_idle() -> bool:
    """Close the connections that hold nothing; whether others stay open."""
    held = False
    for connection in _opened():
        if _is_held(connection):
            held = True
        else:
            connection.close()
    return held


def close() -> None:
    """Close all connections, because the thread ends."""
    for connection in _opened():
        connection.close()


def _in_transaction(connection: Any) -> bool:
    return connection.in_atomic_block or (
        connection.connection is not None and connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
    )


def _roll_back(connection: Any) -> None:
    """Roll back a transaction that was left open, and reset its state so that later calls can succeed."""
    logger.error(
        "Sync code left a transaction open on the database %r; it was rolled back.", connection.alias
    )
    connection.in_atomic_block = connection.needs_rollback = connection.closed_in_transaction = False
    connection.savepoint_ids, connection.atomic_blocks, connection.run_on_commit = [], [], []
    try:
        connection.rollback()
        # close() below does not close SQLite's in-memory databases.
        connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])
    except Exception as exc:
        logger.debug("The connection could not be rolled back (%r)", exc)
    finally:
        connection.close()


# The attribute for the number of references that a connection of the database driver has without cursors.
BASE_REFERENCES = "_fastws_references"


def count_references() -> None:
    """From now on, record how many references each new connection has."""
    if has_django():
        from django.db.backends.signals import connection_created

        connection_created.connect(_count, dispatch_uid="fastws_compat.connections")


def _count(sender: Any, connection: Any, **kwargs: Any) -> None:
    vars(connection)[BASE_REFERENCES] = sys.getrefcount(connection.connection)


def _is_held(connection: Any) -> bool:
    """Whether a transaction is open or a cursor exists, which holds a reference to its connection."""
    if connection.connection is None:
        return bool(connection.in_atomic_block)
    base = vars(connection).get(BASE_REFERENCES)
    has_cursors = base is not None and sys.getrefcount(connection.connection) > base
    return _in_transaction(connection) or has_cursors


def in_tests() -> bool:
    """Whether Django's test environment is set up, by any test runner."""
    mail = sys.modules.get("django.core.mail")
    return mail is not None and "outbox" in vars(mail)


# The cache clients that no call is using, with the settings that they were made for. Django keeps clients in
# a `Local`: each call would connect again, or each socket would hold a connection for as long as it is open.
_spare: deque[tuple[Any, dict[str, Any]]] = deque()


def lend_caches() -> dict[str, Any]:
    """Give the running call the cache clients of an earlier call."""
    if not _spare:
        return {}
    caches = _caches()
    lent = {alias: client for alias, client in _spare_caches(caches.settings).items() if not _has(alias)}
    for alias, client in lent.items():
        caches[alias] = client
    return lent


def new_caches(before: Context) -> dict[str, Any]:
    """The cache clients that the running call has added to its context."""
    if loaded("django.core.cache") is None or not has_django():
        return {}
    caches = _caches()
    return {alias: caches[alias] for alias in caches if _has(alias) and not before.run(_has, alias)}


def return_caches(lent: dict[str, Any]) -> None:
    """Remove the cache clients from the context and keep them for a later call."""
    caches = _caches()
    for alias in lent:
        with suppress(AttributeError):  # the call deleted it
            del caches[alias]
    _spare.append((caches.settings, lent))


def _caches() -> Any:
    return sys.modules["django.core.cache"].caches


def _has(alias: str) -> bool:
    return hasattr(_caches()._connections, alias)


def _spare_caches(settings: Any) -> dict[str, Any]:
    """One set of spare cache clients. Those made for other settings, overridden by a test, are dropped."""
    while True:
        try:
            made_for, caches = _spare.pop()
        except IndexError:
            return {}
        if made_for is settings:
            return caches
