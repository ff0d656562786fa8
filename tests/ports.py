"""Ports for servers that tests start."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator

# The system gives the ports from here on to no client, so that none takes one before the server does.
FIRST = 20_000
BLOCKS, SIZE = 50, 200


def _own_block() -> tuple[int, Iterator[int]]:
    """A block of ports that no other process uses while this one holds the lock, without end.

    Two processes that try for a free port at the same time may otherwise find the same one, and a test then
    talks to the server of another.
    """
    for block in range(BLOCKS):
        lock = os.open(f"{tempfile.gettempdir()}/fastws-ports-{block}", os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        first = FIRST + block * SIZE
        return lock, itertools.cycle(range(first, first + SIZE))
    raise RuntimeError(f"{BLOCKS} processes use all ports for tests.")


_lock, _ports = _own_block()


def free_port() -> int:
    """A port on which nothing listens."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("`_ports` has no end.")
