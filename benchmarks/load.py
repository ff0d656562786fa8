"""The load that a compiled client (`client.c`) puts on a server."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import clients
from benchmarks.servers import processor_seconds


@dataclass(frozen=True)
class Load:
    """What the client reached per second, and the server's CPU time for each, in microseconds."""

    rate: float
    cost: float


def echo(
    server: tuple[int, int], path: str, payload: bytes, seconds: float, sockets: int, opcode: int = 1
) -> Load:
    """Send messages, each when the previous one has come back on its socket."""
    request = clients.frame(payload, opcode)
    return _load("echo", server, path, seconds, sockets, request, clients.answer(server[0], path, request))


def connects(server: tuple[int, int], path: str, seconds: float, sockets: int) -> Load:
    """Open and close connections, a limited number at a time: TCP and handshake, then close."""
    return _load("connects", server, path, seconds, sockets)


def _load(
    work: str,
    server: tuple[int, int],
    path: str,
    seconds: float,
    sockets: int,
    request: bytes = b"",
    answer: int = 0,
) -> Load:
    port, pid = server
    handshake = clients.HANDSHAKE.format(path=path).encode()
    numbers = (port, sockets, seconds, len(handshake), len(request), answer)
    client = subprocess.Popen(
        [compiled(), work, *map(str, numbers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with client:
        assert client.stdin is not None
        assert client.stdout is not None
        apart(pid, client.pid)
        client.stdin.write(handshake + request)
        client.stdin.flush()
        if client.stdout.readline() != b"ready\n":
            sys.exit("The client could not connect.")
        before = processor_seconds(pid)
        rate = float(client.communicate(b"go\n")[0])
        return Load(rate, (processor_seconds(pid) - before) / (rate * seconds) * 1e6)


@functools.cache
def compiled() -> str:
    """The program of `client.c`, compiled for this run."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        sys.exit("This needs a C compiler: a client in Python would be slower than the servers.")
    _folders.append(tempfile.TemporaryDirectory())
    program = Path(_folders[-1].name, "client")
    subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name("client.c")], check=True)
    return str(program)


# Removed when the run ends.
_folders: list[tempfile.TemporaryDirectory[str]] = []


def apart(server: int, client: int) -> None:
    """Reserve a core for the server if there are several (Linux), so that the client does not use it."""
    if hasattr(os, "sched_setaffinity") and len(processors := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(server, processors[:1])
        os.sched_setaffinity(client, processors[1:])
