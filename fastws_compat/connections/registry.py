"""The open connections of each event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from fastws_compat import installed
from fastws_compat.connections.sweeper import Sweeper, Swept
from fastws_compat.threads import orm


class Connected(Swept, Protocol):
    """A connection, from the outermost of the library's applications to its end."""

    # The task that runs the endpoint, once there is one.
    task: asyncio.Task[Any] | None
    # The endpoint's socket, once there is one.
    websocket: Any

    @property
    def is_ending(self) -> bool: ...

    @property
    def is_unaware(self) -> bool: ...


class Registry:
    """The connections of one event loop."""

    __slots__ = ("connections", "sweeper")

    def __init__(self) -> None:
        self.connections: set[Connected] = set()
        self.sweeper = Sweeper(self.connections)


_registries: WeakKeyDictionary[asyncio.AbstractEventLoop, Registry] = WeakKeyDictionary()
_lock = threading.Lock()
# Called in each event loop that begins to serve.
on_begin: list[Callable[[], None]] = []
# The most recent loop, with its registry. A process rarely has two loops.
_latest: tuple[Callable[[], Any], Registry] = (lambda: None, Registry())


def registry() -> Registry:
    """The registry of the running loop."""
    global _latest
    loop = asyncio.get_running_loop()
    latest, found = _latest
    if latest() is not loop:
        found = _registries.get(loop) or _begin(loop)
        _latest = ref(loop), found
        orm.notice_tests()
    return found


def _begin(loop: asyncio.AbstractEventLoop) -> Registry:
    with _lock:
        found = _registries[loop] = Registry()
    installed.warn_if_absent()
    for callback in on_begin:
        callback()
    return found


def registries() -> list[tuple[asyncio.AbstractEventLoop, Registry]]:
    """The loops that serve in this process, with their registries; callable from any thread."""
    with _lock:
        return [(loop, found) for loop, found in _registries.items() if not loop.is_closed()]


def register(connection: Connected) -> set[Connected]:
    """Add a connection to those of the running loop, from which the caller discards it at its end."""
    here = registry()
    here.connections.add(connection)
    if not here.sweeper.is_armed:
        here.sweeper.arm(asyncio.get_running_loop())
    return here.connections


def everywhere() -> list[Any]:
    """The connections of all loops of the process; callable from any thread."""
    return [each for _, found in registries() for each in list(found.connections)]


def connections_of(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> list[Connected]:
    """The connections of a loop whose endpoints run in `task`."""
    found = _registries.get(loop)
    return [] if found is None else [each for each in list(found.connections) if each.task is task]


def ending_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this loop that are still running after their endpoint ended or was cancelled."""
    return {each.task for each in registry().connections if each.task and each.is_ending}


# Called when a server starts. A loop may serve several times, such as that of all tests of a session.
startups: list[Callable[[], None]] = []


def start() -> None:
    """The running loop serves from now on, and operators can reach it."""
    registry()
    for startup in startups:
        startup()


# Called when the server stops, before the process exits.
shutdowns: list[Callable[[], Awaitable[None]]] = []


async def drain(seconds: float) -> None:
    """Wait for the cleanup of this loop's ending connections before the process exits.

    After its timeout, uvicorn cancels the remaining tasks and then waits only for the lifespan.
    """
    for shutdown in shutdowns:
        await shutdown()
    if ending := ending_tasks():
        await asyncio.wait(ending, timeout=seconds)
