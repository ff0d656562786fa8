"""Looking up who connects: in threads of its own, and without a trace in the context of the connection.

The one thread of the async ORM may be busy with an endpoint's query. What asgiref keeps for the caller of a
thread, such as a cache's client, is kept as long as the caller lives, which here is as long as the socket.
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

from asgiref.sync import AsyncToSync
from channels.db import DatabaseSyncToAsync
from django.conf import settings
from django.core.cache import BaseCache, caches

from fastws_compat import conf, databases
from fastws_compat.tenants import any_schemas

T = TypeVar("T")


async def look_up(call: Callable[..., T], *arguments: Any) -> T:
    """What the sync `call` gives; it sees the caller's context variables, and what it sets is forgotten.

    Where a test or `async_to_sync` has all sync code run in a certain thread, this runs there too.
    """
    if _has_thread() or any_schemas():  # set in the thread that all async code shares
        work = DatabaseSyncToAsync(_with_caches_closed)
    else:
        work = DatabaseSyncToAsync(_in_pool, thread_sensitive=False, executor=_pool())
    return await forgetting(work(call, *arguments))


async def forgetting(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, run in a copy of the context that ends with it."""
    return await asyncio.get_running_loop().create_task(work, context=copy_context())


def _has_thread() -> bool:
    """Whether asgiref knows of a thread for the sync code of this loop; no server says so."""
    loop = asyncio.get_running_loop()
    return loop in AsyncToSync.loop_thread_executors or bool(getattr(AsyncToSync.executors, "current", None))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(conf.get("THREADS"), thread_name_prefix="fastws-lookup")


def _in_pool(call: Callable[..., T], *arguments: Any) -> T:
    """Clean the thread's database connections after the call; in tests this closes them."""
    try:
        return _with_caches_closed(call, *arguments)
    finally:
        databases.tidy()


def _with_caches_closed(call: Callable[..., T], *arguments: Any) -> T:
    """Django closes its caches when a request ends."""
    try:
        return call(*arguments)
    finally:
        for client, _ in _clients().values():
            client.close()


# Sessions


def new_session(key: str | None) -> Any:
    """The session of that key, not read yet, for a scope: no context and no socket keeps a cache's client."""
    return copy_context().run(_new_session, key)


def _new_session(key: str | None) -> Any:
    store = import_module(settings.SESSION_ENGINE).SessionStore(key)
    for name, value in vars(store).items():
        if isinstance(value, BaseCache) and (alias := _alias_of(value)) is not None:
            setattr(store, name, CacheOfThread(alias))
    return store


def _alias_of(cache: BaseCache) -> str | None:
    """The alias of a cache that the running context has just opened."""
    return next((alias for alias in caches.settings if caches[alias] is cache), None)


class CacheOfThread:
    """A cache, through the client of the thread that asks: as many connections as threads, whoever asks."""

    __slots__ = ("_alias",)

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by `copy` and `pickle` before there is an alias
            raise AttributeError(name)
        return getattr(_client(self._alias), name)


_of_thread = threading.local()


def _clients() -> dict[str, tuple[BaseCache, Any]]:
    """The clients of this thread by alias, and the settings that each was made for."""
    clients: dict[str, tuple[BaseCache, Any]] = _of_thread.__dict__.setdefault("clients", {})
    return clients


def _client(alias: str) -> BaseCache:
    client, made_for = _clients().get(alias, (None, None))
    if client is None or made_for is not caches.settings:  # a test has overridden CACHES
        client = caches.create_connection(alias)
        _clients()[alias] = client, caches.settings
    return client
