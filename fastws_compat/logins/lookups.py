"""Queries about users, which run in threads of their own and leave nothing in the connection's context.

The single thread of the async ORM may be busy with an endpoint's query. Anything that a query leaves in the
caller's context, such as a cache client, would be kept for as long as the socket is open.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from importlib import import_module
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync
from channels.db import DatabaseSyncToAsync
from django.apps import apps
from django.conf import settings
from django.core.cache import BaseCache, caches
from django.db import InterfaceError, OperationalError

from fastws_compat import conf
from fastws_compat.logins.tenants import any_schemas
from fastws_compat.threads import databases

T = TypeVar("T")

# How often a look-up is tried while it finds lost connections. A pool of psycopg keeps four by default, and
# hands out one after the other.
MAX_ATTEMPTS = 5


async def look_up(call: Callable[..., T], *arguments: Any) -> T:
    """The result of the sync `call`. It sees the caller's context variables; any that it sets are discarded.

    Tests and `async_to_sync` have one thread for all sync code, so it runs in that thread there.
    """
    return await in_discarded_context(in_thread(call, *arguments))


def in_thread(call: Callable[..., T], *arguments: Any) -> Coroutine[Any, Any, T]:
    """As `look_up`, but what it sets stays in the context that awaits it."""
    if _has_thread() or any_schemas():  # the schema is set in the one thread of the async ORM
        # A connection that a test has opened belongs to the test, which may forbid its use.
        wrapper = SyncToAsync if databases.in_tests() else DatabaseSyncToAsync
        work = wrapper(_with_caches_closed)
    else:
        work = SyncToAsync(_in_pool, thread_sensitive=False, executor=_pool())
    looked_up: Coroutine[Any, Any, T] = work(call, *arguments)
    return looked_up


async def in_discarded_context(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which runs in a copy of the context that is then discarded."""
    return await asyncio.get_running_loop().create_task(work, context=copy_context())


def _has_thread() -> bool:
    """Whether asgiref has a thread for the sync code of this loop; in a server it does not."""
    loop = asyncio.get_running_loop()
    return loop in AsyncToSync.loop_thread_executors or bool(getattr(AsyncToSync.executors, "current", None))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(conf.get("THREADS"), thread_name_prefix="fastws-lookup")


def _in_pool(call: Callable[..., T], *arguments: Any) -> T:
    """Clean the thread's database connections before and after the call; in tests this closes them."""
    databases.clean_up()
    try:
        return _connected(call, *arguments)
    finally:
        databases.clean_up()


def _connected(call: Callable[..., T], *arguments: Any) -> T:
    """Make the call, and make it again if it found a connection that the database has dropped.

    After a restart of the database, a connection that was kept would otherwise fail a whole batch.
    """
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return _with_caches_closed(call, *arguments)
        except (OperationalError, InterfaceError):
            if not databases.close_lost():
                raise
    return _with_caches_closed(call, *arguments)


def _with_caches_closed(call: Callable[..., T], *arguments: Any) -> T:
    """Make the call and then close the caches, as Django does at the end of a request."""
    try:
        return call(*arguments)
    except StopIteration as exc:  # a future cannot hold one, so its awaiter would never wake up
        raise RuntimeError("A look-up raised StopIteration") from exc
    finally:
        for client, _ in _clients().values():
            client.close()


# Sessions

SESSIONS = "django.contrib.sessions"
# The engines that keep sessions in the table of that application.
IN_TABLE = ("django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db")


def new_session(key: str | None) -> Any:
    """The session with that key, not loaded yet. It holds no cache client and leaves none in the context.

    A key with a null character is nobody's, and PostgreSQL would raise an error for it. Without a table of
    sessions, the cookie is that of another project on the same host.
    """
    engine = settings.SESSION_ENGINE
    is_usable = key and "\0" not in key and _has_sessions(engine)
    return copy_context().run(_new_session, engine, key if is_usable else None)


def _has_sessions(engine: str) -> bool:
    if engine not in IN_TABLE:
        return True
    labelled = apps.app_configs.get("sessions")  # `is_installed` looks at every application
    return (labelled is not None and labelled.name == SESSIONS) or apps.is_installed(SESSIONS)


def _new_session(engine: str, key: str | None) -> Any:
    store = import_module(engine).SessionStore(key)
    for name, value in vars(store).items():
        if isinstance(value, BaseCache) and (alias := _alias_of(value)) is not None:
            setattr(store, name, ThreadCache(alias))
    return store


def _alias_of(cache: BaseCache) -> str | None:
    """The alias of a cache that the running context has just opened."""
    return next((alias for alias in caches.settings if caches[alias] is cache), None)


class ThreadCache:
    """A cache that uses the client of the calling thread, so there are at most as many clients as threads."""

    __slots__ = ("_alias",)

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `copy` and `pickle` read these before `_alias` is set
            raise AttributeError(name)
        return getattr(_client(self._alias), name)


_thread_local = threading.local()


def _clients() -> dict[str, tuple[BaseCache, Any]]:
    """The clients of this thread by alias, each with the settings that it was made for."""
    clients: dict[str, tuple[BaseCache, Any]] = _thread_local.__dict__.setdefault("clients", {})
    return clients


def _client(alias: str) -> BaseCache:
    client, made_for = _clients().get(alias, (None, None))
    if client is None or made_for is not caches.settings:  # a test has overridden CACHES
        client = caches.create_connection(alias)
        _clients()[alias] = client, caches.settings
    return client
