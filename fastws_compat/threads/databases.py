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


def has_django() -> bool:
    return "django.db" in sys.modules and bool(sys.modules["django.conf"].settings.configured)


def _opened() -> list[Any]:
    """The wrappers of this thread's database connections; makes none."""
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
    """Make them this thread's: every call sets its own, so none meets another's."""
    connections = sys.modules["django.db"].connections
    for alias, tenant in wanted.items():
        if connections[alias].tenant is not tenant:
            connections[alias].set_tenant(tenant)


def tidy() -> None:
    """Between two calls that know nothing of each other: as Django does it between two requests.

    A transaction that is still open has nobody left to end it.
    """
    for connection in _opened():
        if _in_transaction(connection):
            _abandon(connection)
        elif connection.connection is not None:
            _close_if_old(connection)


class Opened(NamedTuple):
    """Whether connections are open that hold something, and others."""

    held: bool = False
    idle: bool = False


NONE = Opened()


def keep_held() -> Opened:
    """Between two calls of one owner: connections that hold something stay, the others may."""
    held = idle = False
    for connection in _opened():
        if _is_held(connection):
            held = True
        elif connection.connection is not None:
            _close_if_old(connection)
            idle = idle or connection.connection is not None
    return Opened(held, idle) if held or idle else NONE


def _close_if_old(connection: Any) -> None:
    if in_tests():
        connection.close()  # a test database cannot be dropped while somebody is connected to it
    connection.close_if_unusable_or_obsolete()


def release() -> bool:
    """Close the connections that hold nothing; whether others stay open."""
    held = False
    for connection in _opened():
        if _is_held(connection):
            held = True
        else:
            connection.close()
    return held


def close() -> None:
    """Close all connections of a thread that ends."""
    for connection in _opened():
        connection.close()


def _in_transaction(connection: Any) -> bool:
    return connection.in_atomic_block or (
        connection.connection is not None and connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
    )


def _abandon(connection: Any) -> None:
    """Roll a transaction back that was left open, and forget it: otherwise every later call would fail."""
    logger.error(
        "Sync code left a transaction open on the database %r; it was rolled back.", connection.alias
    )
    connection.in_atomic_block = connection.needs_rollback = connection.closed_in_transaction = False
    connection.savepoint_ids, connection.atomic_blocks, connection.run_on_commit = [], [], []
    try:
        if connection.connection is not None:
            connection.rollback()
            # SQLite keeps a database in memory open.
            connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])
    except Exception as exc:
        logger.debug("The connection could not be rolled back (%r)", exc)
    finally:
        connection.close()


# How many references a connection of the database driver has without those of its cursors.
UNUSED = "_fastws_references"


def count_references() -> None:
    """From now on know of each new connection how many there are to begin with."""
    if has_django():
        from django.db.backends.signals import connection_created

        connection_created.connect(_count, dispatch_uid="fastws_compat.connections")


def _count(sender: Any, connection: Any, **kwargs: Any) -> None:
    vars(connection)[UNUSED] = sys.getrefcount(connection.connection)


def _is_held(connection: Any) -> bool:
    """Whether a transaction is open, or somebody still has a cursor, which refers to its connection."""
    if connection.connection is None:
        return bool(connection.in_atomic_block)
    unused = vars(connection).get(UNUSED)
    has_cursors = unused is not None and sys.getrefcount(connection.connection) > unused
    return _in_transaction(connection) or has_cursors


def in_tests() -> bool:
    """Whether Django's test environment is set up, by any test runner."""
    mail = sys.modules.get("django.core.mail")
    return mail is not None and "outbox" in vars(mail)


# Caches that no call uses at present, with the settings that they were made for. Django keeps them in a
# `Local`, which would have each call connect anew, or each socket hold a connection for its life.
_spare: deque[tuple[Any, dict[str, Any]]] = deque()


def lend_caches() -> dict[str, Any]:
    """Give the running call the caches that an earlier one has connected."""
    if not _spare:
        return {}
    caches = _caches()
    lent = {alias: client for alias, client in _spare_caches(caches.settings).items() if not _has(alias)}
    for alias, client in lent.items():
        caches[alias] = client
    return lent


def new_caches(before: Context) -> dict[str, Any]:
    """The caches that the running call has, and its context had not before."""
    if "django.core.cache" not in sys.modules or not has_django():
        return {}
    caches = _caches()
    return {alias: caches[alias] for alias in caches if _has(alias) and not before.run(_has, alias)}


def take_caches_back(lent: dict[str, Any]) -> None:
    """Keep them for a later call."""
    caches = _caches()
    for alias in lent:
        with suppress(AttributeError):  # the call has deleted it
            del caches[alias]
    _spare.append((caches.settings, lent))


def _caches() -> Any:
    return sys.modules["django.core.cache"].caches


def _has(alias: str) -> bool:
    return hasattr(_caches()._connections, alias)


def _spare_caches(settings: Any) -> dict[str, Any]:
    """One set of caches; those of settings that a test has overridden since are dropped."""
    while True:
        try:
            made_for, caches = _spare.pop()
        except IndexError:
            return {}
        if made_for is settings:
            return caches
