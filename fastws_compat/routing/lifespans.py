"""Lifespans: what an application runs at startup and shutdown, in every form that FastAPI accepts."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastws_compat.concurrency import is_async


def as_context(lifespan: Any) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """A lifespan of any form as a function that returns an asynchronous context manager."""
    if lifespan is None:
        return lambda app: contextlib.nullcontext()
    if inspect.isasyncgenfunction(lifespan):
        return asynccontextmanager(lifespan)
    if inspect.isgeneratorfunction(lifespan):
        sync = contextlib.contextmanager(lifespan)

        @asynccontextmanager
        async def context(app: Any) -> AsyncIterator[Any]:
            with sync(app) as state:
                yield state

        return context
    factory: Callable[[Any], AbstractAsyncContextManager[Any]] = lifespan
    return factory


def merged(
    outer: Callable[[Any], AbstractAsyncContextManager[Any]],
    inner: Callable[[Any], AbstractAsyncContextManager[Any]],
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]:
    """Two lifespans as one; if both set the same key of the state, the outer one wins."""

    @asynccontextmanager
    async def context(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        async with outer(app) as outer_state, inner(app) as inner_state:
            if outer_state is None and inner_state is None:
                yield None
            else:
                yield {**(inner_state or {}), **(outer_state or {})}

    return context


async def run_all(handlers: Iterable[Callable[[], Any]]) -> None:
    """Call handlers in order, sync or async."""
    for handler in handlers:
        if is_async(handler):
            await handler()
        else:
            handler()
