"""The generator dependencies that are open on a connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from collections.abc import Generator as SyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple

from fastws_compat.connections.interrupt import Cleanup

Generator = AsyncGenerator[Any, None]
Manager = AbstractAsyncContextManager[Any]
NoSteps = SyncGenerator[None, None, None]


class Entered(NamedTuple):
    """A context manager that has been entered; it may be an async iterator too, so it is marked."""

    manager: Manager


class Nothing:
    """Awaiting it takes no coroutine."""

    def __await__(self) -> NoSteps:
        yield from ()


NOTHING = Nothing()


class OpenGenerators:
    """Generators that end together, the last one first, within the time limit of a teardown.

    It does what an exit stack of context managers does, but a generator that ends normally needs neither.
    """

    __slots__ = ("_cleanup", "_opened")

    def __init__(self, cleanup: Cleanup) -> None:
        self._cleanup = cleanup
        self._opened: list[Generator | Entered] = []

    async def open(self, generator: Generator) -> Any:
        """The value of a generator that has just been called."""
        try:
            value = await anext(generator)
        except StopAsyncIteration:
            raise RuntimeError("generator didn't yield") from None
        self._opened.append(generator)
        return value

    async def enter(self, manager: Manager) -> Any:
        """The value of a context manager."""
        value = await manager.__aenter__()
        self._opened.append(Entered(manager))
        return value

    async def __aenter__(self) -> OpenGenerators:
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[bool | None]:
        if not self._opened:
            return NOTHING
        self._cleanup.begin()
        return self._cleanup.limit(self._end(exc))

    async def _end(self, exc: BaseException | None) -> bool:
        """End all of them. An exception is raised in each; returns whether one of them suppressed it."""
        if exc is not None:
            return bool(await self._exit_stack().__aexit__(type(exc), exc, exc.__traceback__))
        try:
            while self._opened:
                last = self._opened.pop()
                if isinstance(last, Entered):
                    await last.manager.__aexit__(None, None, None)
                    continue
                # As `asynccontextmanager` does without an exception.
                try:
                    await anext(last)
                except StopAsyncIteration:
                    continue
                await _close_unfinished(last)
        except BaseException:
            async with self._exit_stack():
                raise
        return False

    def _exit_stack(self) -> AsyncExitStack:
        stack = AsyncExitStack()
        for item in self._opened:
            stack.push_async_exit(item.manager if isinstance(item, Entered) else opened(item))
        return stack


@asynccontextmanager
def opened(generator: Generator) -> Generator:
    """A generator that has yielded, as an entered context manager."""
    return generator


async def _close_unfinished(generator: Generator) -> None:
    """Close a generator that has yielded a second time, as `asynccontextmanager` does."""
    try:
        raise RuntimeError("generator didn't stop")
    finally:
        await generator.aclose()
