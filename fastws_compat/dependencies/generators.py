"""The generator dependencies that are open on a connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import AsyncGeneratorType
from typing import Any, NamedTuple, TypeVar

from fastws_compat.connections.interrupt import Cleanup, resumed

T = TypeVar("T")
Generator = AsyncGenerator[Any, None]
Manager = AbstractAsyncContextManager[Any]


class Entered(NamedTuple):
    """A context manager that has been entered; it may be an async iterator too, so it is marked."""

    manager: Manager


# Generators that end together, the last one first.
Opened = list[Generator | Entered]


async def open_generator(opened: Opened, generator: Generator) -> Any:
    """The value of a generator that has just been called."""
    try:
        value = await anext(generator)
    except StopAsyncIteration:
        raise RuntimeError("generator didn't yield") from None
    opened.append(generator)
    return value


async def enter(opened: Opened, manager: Manager) -> Any:
    """The value of a context manager."""
    value = await manager.__aenter__()
    opened.append(Entered(manager))
    return value


class Teardown(Cleanup):
    """The end of generators, within the time limit of a teardown.

    It does what an exit stack of context managers does, but a generator that ends normally needs neither, and
    those that do not even wait need no coroutine.
    """

    async def after(self, work: Awaitable[T], opened: Opened) -> T | None:
        """The result of `work`, after which the generators end; None if one suppresses an exception."""
        try:
            result = await work
            if opened and (rest := self.end_all(opened)) is not None:
                await rest
        except BaseException as exc:
            if not await self.unwind(opened, exc):
                raise
            return None
        return result

    def end_all(self, opened: Opened) -> Awaitable[None] | None:
        """End the generators. Returns what is left to be awaited if one of them waits."""
        self.begin()
        while opened:
            last = opened.pop()
            if type(last) is not AsyncGeneratorType:
                return self.limit(_end_others(_end(last), opened))
            end: Any = anext(last)
            try:
                waits_for = end.send(None)
            except StopAsyncIteration:
                continue
            except StopIteration:
                first = _close_unfinished(last)
            else:
                first = _ended(last, resumed(end, waits_for))
            return self.limit(_end_others(first, opened))
        return None

    async def unwind(self, opened: Opened, exc: BaseException) -> bool:
        """Raise an exception in the generators; whether one of them has suppressed it."""
        if not opened:
            return False
        self.begin()
        return bool(await self.limit(_exit_stack(opened).__aexit__(type(exc), exc, exc.__traceback__)))


async def _end_others(first: Awaitable[None], opened: Opened) -> None:
    """Await the end of one generator, and end the others."""
    try:
        await first
        while opened:
            await _end(opened.pop())
    except BaseException:
        async with _exit_stack(opened):
            raise


def _end(item: Generator | Entered) -> Coroutine[Any, Any, Any]:
    if isinstance(item, Entered):
        return item.manager.__aexit__(None, None, None)
    return _ended(item, anext(item))


async def _ended(generator: Generator, end: Awaitable[Any]) -> None:
    """Await the end of a generator, as `asynccontextmanager` does without an exception."""
    try:
        await end
    except StopAsyncIteration:
        return
    await _close_unfinished(generator)


def _exit_stack(opened: Opened) -> AsyncExitStack:
    """The generators, moved to a stack that raises an exception in each."""
    stack = AsyncExitStack()
    for item in opened:
        stack.push_async_exit(item.manager if isinstance(item, Entered) else _manager_of(item))
    opened.clear()
    return stack


@asynccontextmanager
def _manager_of(generator: Generator) -> Generator:
    """A generator that has yielded, as an entered context manager."""
    return generator


async def _close_unfinished(generator: Generator) -> None:
    """Close a generator that has yielded a second time, as `asynccontextmanager` does."""
    try:
        raise RuntimeError("generator didn't stop")
    finally:
        await generator.aclose()
