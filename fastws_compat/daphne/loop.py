"""The event loop under Twisted's reactor: uvloop's, if it is installed."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from typing import Any

from fastws_compat import conf

# What Twisted's asyncio reactor does not document.
NEEDED = ("_asyncioEventloop", "_readers", "_writers", "_scheduledAt", "_timerHandle", "_reschedule")


def prepare_loop(reactor: Any) -> AbstractEventLoop:
    """The loop that the reactor will run on; before it runs, uvloop takes the place of asyncio's.

    daphne installs the reactor when it is imported, which is before any setting can be read.
    """
    current: AbstractEventLoop = reactor._asyncioEventloop
    if conf.get("LOOP") != "auto" or not can_move(reactor):
        return current
    try:
        import uvloop
    except ImportError:
        return current
    loop: AbstractEventLoop = uvloop.new_event_loop()
    move(reactor, loop)
    return loop


def can_move(reactor: Any) -> bool:
    """Whether the reactor can change its loop: tasks and a running loop cannot."""
    if not all(hasattr(reactor, name) for name in NEEDED):
        return False
    current: AbstractEventLoop = reactor._asyncioEventloop
    return not current.is_running() and not current.is_closed() and not asyncio.all_tasks(current)


def move(reactor: Any, loop: AbstractEventLoop) -> None:
    """Put everything that waits for the reactor's loop on another one, and close the old one."""
    old: Any = reactor._asyncioEventloop
    # Calls from threads, which the reactor keeps until the loop runs, become timers of the reactor.
    old.call_soon(old.stop)
    old.run_forever()
    readers, writers = list(reactor._readers), list(reactor._writers)
    for reader in readers:
        reactor.removeReader(reader)
    for writer in writers:
        reactor.removeWriter(writer)
    if reactor._timerHandle is not None:
        reactor._timerHandle.cancel()
        reactor._timerHandle = reactor._scheduledAt = None
    # The threads that ASGI_THREADS asks for.
    if (executor := getattr(old, "_default_executor", None)) is not None:
        old._default_executor = None
        loop.set_default_executor(executor)
    reactor._asyncioEventloop = loop
    for reader in readers:
        reactor.addReader(reader)
    for writer in writers:
        reactor.addWriter(writer)
    reactor._reschedule()
    old.close()
