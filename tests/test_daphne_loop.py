"""Twisted's reactor on uvloop, without a server: what it watches, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("uvloop")

PROGRAM = """
import asyncio, contextlib, os, socket, sys, tempfile
import uvloop
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from fastws_compat.daphne.loop import can_move, move

reactor = AsyncioSelectorReactor(asyncio.new_event_loop())


class Watched:
    '''A file or socket that the reactor watches; it stops the loop when it is ready.'''

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd

    def logPrefix(self):
        return ""

    def doRead(self):
        print("read", flush=True)
        reactor.removeReader(self)
        reactor._asyncioEventloop.stop()

    def doWrite(self):
        print("write", flush=True)
        reactor.removeWriter(self)
        reactor._asyncioEventloop.stop()


here, there = socket.socketpair()
here.setblocking(False)


def moved():
    move(reactor, uvloop.new_event_loop())


def fill():
    with contextlib.suppress(BlockingIOError):
        while True:
            here.send(bytes(65536))


def drain():
    there.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            there.recv(65536)


def run():
    reactor._asyncioEventloop.call_later(30, reactor._asyncioEventloop.stop)
    reactor._asyncioEventloop.run_forever()

"""


def printed(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_waits_before_the_move_is_served_after_it() -> None:
    # A socket that is ready would be served by the old loop, which runs once more.
    waiting = "fill(); reactor.addWriter(Watched(here.fileno())); moved(); print('moved'); drain(); run()"
    assert printed(waiting) == "moved\nwrite\n"
    assert printed("reactor.addReader(Watched(here.fileno())); moved(); there.send(b'.'); run()") == "read\n"


def test_a_file_that_the_kernel_does_not_watch_is_polled() -> None:
    program = """
moved()
with tempfile.TemporaryFile() as file:
    for add, remove, found in (
        (reactor.addReader, reactor.removeReader, reactor.getReaders),
        (reactor.addWriter, reactor.removeWriter, reactor.getWriters),
    ):
        watched = Watched(file.fileno())
        add(watched)
        add(watched)
        print(found().count(watched))
        remove(watched)
        print(found().count(watched))
"""
    assert printed(program) == "1\n0\n" * 2


def test_a_number_that_belongs_to_a_new_socket_stays_watched() -> None:
    program = """
moved()
old, new = Watched(here.fileno()), Watched(here.fileno())
reactor.addReader(old)
reactor.addReader(new)
reactor.removeReader(old)
there.send(b".")
run()
"""
    assert printed(program) == "read\n"


def test_a_closed_socket_can_be_forgotten_but_not_watched() -> None:
    program = """
moved()
watched = Watched(here.fileno())
reactor.addReader(watched)
here.close()
reactor.removeReader(watched)
try:
    reactor.addReader(watched)
except OSError as error:
    print(error.errno)
"""
    assert printed(program) == "9\n"


def test_a_socket_that_another_one_closes_is_not_read_though_both_were_ready() -> None:
    program = """
class Closing(Watched):
    def doRead(self):
        super().doRead()
        other = one if self is two else two
        reactor.removeReader(other)
        os.close(other.fd)


pipes = [os.pipe(), os.pipe()]
moved()
one, two = (Closing(reading) for reading, _ in pipes)
for reader, (_, writing) in zip((one, two), pipes):
    reactor.addReader(reader)
    os.write(writing, b".")
run()
"""
    assert printed(program) == "read\n"


def test_a_reader_that_ends_or_raises_is_disconnected() -> None:
    program = """
from twisted.internet.main import CONNECTION_DONE


class Ending(Watched):
    def __init__(self, fd, end):
        super().__init__(fd)
        self.doRead = end

    def connectionLost(self, reason):
        print(reason.type.__name__, self in reactor.getReaders(), flush=True)
        reactor._asyncioEventloop.stop()

    readConnectionLost = connectionLost


moved()
there.send(b".")
for end in (lambda: CONNECTION_DONE, lambda: 1 / 0):
    reactor.addReader(Ending(here.fileno(), end))
    run()
"""
    assert printed(program) == "ConnectionDone False\nZeroDivisionError False\n"


def test_a_reactor_of_another_release_stays_where_it_is() -> None:
    program = "print(can_move(reactor)); del reactor._timerHandle; print(can_move(reactor))"
    assert printed(program) == "True\nFalse\n"


def test_a_peer_that_has_closed_is_seen_before_its_data_is_read() -> None:
    program = """
from types import SimpleNamespace
from fastws_compat.daphne.loop import has_left_the_backlog


class Told(Watched):
    reactor = reactor

    def doRead(self):
        print(has_left_the_backlog(SimpleNamespace(transport=self)), here.recv(10))
        super().doRead()


moved()
for leaves in (False, True):
    there.send(b"data")
    if leaves:
        there.shutdown(socket.SHUT_WR)
    reactor.addReader(Told(here.fileno()))
    run()
"""
    assert printed(program) == "False b'data'\nread\nTrue b'data'\nread\n"
