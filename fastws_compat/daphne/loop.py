"""The event loop under Twisted's reactor: uvloop's, if it is installed."""

from __future__ import annotations

import asyncio
import select
from asyncio import AbstractEventLoop
from typing import Any

from twisted.internet import process as twisted_process
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from fastws_compat import conf
from fastws_compat.connections.peers import has_left

# What Twisted's asyncio reactor does not document.
NEEDED = (
    "_asyncioEventloop",
    "_continuousPolling",
    "_readers",
    "_writers",
    "_scheduledAt",
    "_timerHandle",
    "_reschedule",
    "_readOrWrite",
    "_disconnectSelectable",
    "_log",
)
# They exist on Linux only, like `select.epoll` itself.
EPOLLIN, EPOLLOUT, EPOLLRDHUP = (getattr(select, name, 0) for name in ("EPOLLIN", "EPOLLOUT", "EPOLLRDHUP"))
# How many sockets are served before timers and tasks get a turn.
MAX_EVENTS = 256
# Seconds between two checks of the children that Twisted has started.
REAP_INTERVAL = 0.1


class EpollReactor(AsyncioSelectorReactor):
    """Twisted's reactor with one epoll object for all its sockets, which is all that its loop watches.

    uvloop stops watching a socket that has an error after it has let Twisted read once. If that reads the
    client's last data, Twisted would never learn that the client has gone.
    """

    _asyncioEventloop: AbstractEventLoop
    _continuousPolling: Any
    _readOrWrite: Any
    _disconnectSelectable: Any
    _log: Any
    _readers: dict[Any, int]
    _writers: dict[Any, int]

    def watch_sockets(self) -> None:
        self._epoll = select.epoll()
        self._reaping: Any = None
        self._reading: dict[int, Any] = {}
        self._writing: dict[int, Any] = {}
        self._asyncioEventloop.add_reader(self._epoll.fileno(), self._serve_sockets)

    def _serve_sockets(self) -> None:
        reading = self._reading
        for fd, event in self._epoll.poll(0, MAX_EVENTS):
            # As in asyncio: after an error, reading and writing both find out which it is.
            if event != EPOLLOUT and (reader := reading.get(fd)) is not None:
                if event & EPOLLRDHUP:
                    reader.peer_has_closed = True  # for `has_left_the_backlog`
                # Twisted's `_readOrWrite`, inlined; a reader that has been closed is not in `reading`.
                try:
                    why = reader.doRead()
                except Exception as exc:
                    why = exc
                    self._log.failure(None)
                if why:
                    self._disconnectSelectable(reader, why, True)
            if event != EPOLLIN and (writer := self._writing.get(fd)) is not None:
                self._readOrWrite(writer, False)

    def addReader(self, reader: Any) -> None:
        if reader not in self._readers and not self._continuousPolling.isReading(reader):
            fd = self._readers[reader] = reader.fileno()
            self._reading[fd] = reader
            if not self._watch(fd):
                self._forget(self._readers, self._reading, reader)
                self._continuousPolling.addReader(reader)

    def addWriter(self, writer: Any) -> None:
        if writer not in self._writers and not self._continuousPolling.isWriting(writer):
            fd = self._writers[writer] = writer.fileno()
            self._writing[fd] = writer
            if not self._watch(fd):
                self._forget(self._writers, self._writing, writer)
                self._continuousPolling.addWriter(writer)

    def removeReader(self, reader: Any) -> None:
        if reader in self._readers:
            self._watch(self._forget(self._readers, self._reading, reader))
        else:
            self._continuousPolling.removeReader(reader)

    def removeWriter(self, writer: Any) -> None:
        if writer in self._writers:
            self._watch(self._forget(self._writers, self._writing, writer))
        else:
            self._continuousPolling.removeWriter(writer)

    def spawnProcess(self, *args: Any, **options: Any) -> Any:
        started = super().spawnProcess(*args, **options)  # type: ignore[no-untyped-call]
        self._reap()
        return started

    def _reap(self) -> None:
        """Look for children that have exited: uvloop keeps the signal that would tell Twisted."""
        twisted_process.reapAllProcesses()
        if twisted_process.reapProcessHandlers and (self._reaping is None or not self._reaping.active()):
            self._reaping = self.callLater(REAP_INTERVAL, self._reap)  # type: ignore[no-untyped-call]

    @staticmethod
    def _forget(fds: dict[Any, int], selectables: dict[int, Any], selectable: Any) -> int:
        fd = fds.pop(selectable)
        # The number may belong to a new socket already.
        if selectables.get(fd) is selectable:
            del selectables[fd]
        return fd

    def _watch(self, fd: int) -> bool:
        """Watch for what is wanted now; False for a file that epoll cannot watch."""
        wanted = (EPOLLIN | EPOLLRDHUP if fd in self._reading else 0) | (
            EPOLLOUT if fd in self._writing else 0
        )
        try:
            if not wanted:
                self._epoll.unregister(fd)
            else:
                try:
                    self._epoll.modify(fd, wanted)
                except FileNotFoundError:
                    self._epoll.register(fd, wanted)
        except PermissionError:
            return False
        except (OSError, ValueError):
            if wanted:
                raise  # otherwise it has been closed, which serves as well
        return True


def has_left_the_backlog(connection: Any) -> bool:
    """Whether the client of a connection that has just been accepted and read had left before that."""
    transport = connection.transport
    if isinstance(getattr(transport, "reactor", None), EpollReactor):
        return hasattr(transport, "peer_has_closed")
    return has_left(connection)


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
    """Whether the reactor can change its loop: tasks and a running loop cannot, and epoll is Linux's."""
    if type(reactor) is not AsyncioSelectorReactor or not hasattr(select, "epoll"):
        return False
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
    reactor.__class__ = EpollReactor
    reactor.watch_sockets()
    for reader in readers:
        reactor.addReader(reader)
    for writer in writers:
        reactor.addWriter(writer)
    reactor._reschedule()
    old.close()
