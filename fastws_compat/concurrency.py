"""Sync code off the event loop, safe for Django's database connections."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from contextlib import asynccontextmanager as asynccontextmanager
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import iscoroutinefunction

from fastws_compat.connections.interrupt import is_cleaning as is_cleaning
from fastws_compat.exceptions import StarletteDeprecationWarning
from fastws_compat.threads.pool import contextmanager_in, own_thread, run_in

P = ParamSpec("P")
T = TypeVar("T")


class Concurrency:
    """Limits how many calls of one dependency run at a time in each event loop."""

    __slots__ = ("__weakref__", "_semaphores", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._semaphores = WeakKeyDictionary()

    def semaphore(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if loop not in self._semaphores:
            self._semaphores[loop] = asyncio.Semaphore(self.limit)
        return self._semaphores[loop]


def is_async(func: Any) -> bool:
    """Whether `func` returns an awaitable. Sees through partials and `__call__`."""
    while isinstance(func, functools.partial):
        func = func.func
    return iscoroutinefunction(func) or iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


async def run_in_threadpool(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the sync `func`, run in a thread with a copy of the context variables.

    Django's stale database connections are closed before and after the call. If the caller is cancelled, the
    cancellation takes effect when the call has ended.
    """
    return await run_in(None, functools.partial(func, *args, **kwargs))


@asynccontextmanager
async def contextmanager_in_threadpool(cm: AbstractContextManager[T]) -> AsyncGenerator[T, None]:
    """The sync context manager `cm` as an asynchronous one; its entry and exit run in the same thread."""
    with own_thread() as thread:
        async with contextmanager_in(thread, cm) as value:
            yield value


async def iterate_in_threadpool(iterator: Iterable[T]) -> AsyncIterator[T]:
    """The items of a sync iterable, all fetched in one thread."""
    items = iter(iterator)
    end: Any = object()
    with own_thread() as thread:
        while (item := await run_in(thread, functools.partial(next, items, end))) is not end:
            yield item


async def run_until_first_complete(
    *args: tuple[Callable[..., Coroutine[Any, Any, Any]], dict[str, Any]],
) -> None:
    """Run coroutine functions concurrently until the first returns, then cancel the others (Starlette)."""
    warnings.warn(
        "run_until_first_complete is deprecated and will be removed in a future version.",
        StarletteDeprecationWarning,
        stacklevel=2,
    )
    async with asyncio.TaskGroup() as group:

        async def run(func: Callable[..., Coroutine[Any, Any, Any]], kwargs: dict[str, Any]) -> None:
            await func(**kwargs)
            for task in tasks:
                task.cancel()

        tasks = [group.create_task(run(func, kwargs)) for func, kwargs in args]
