"""The load that a compiled client (`client.c`) puts on a server."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import clients
from benchmarks.servers import processor_seconds

# What a member receives when it has joined its group.
GREETING = b"ready"
_numbers = itertools.count()


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
    answer = clients.answer(server[0], path, request)
    [rate], used = _run("echo", server, path, sockets, (seconds, len(request), answer), request)
    return Load(rate, used / (rate * seconds) * 1e6)


def connects(server: tuple[int, int], path: str, seconds: float, sockets: int) -> Load:
    """Open and close connections, a limited number at a time: TCP and handshake, then close."""
    [rate], used = _run("connects", server, path, sockets, (seconds,))
    return Load(rate, used / (rate * seconds) * 1e6)


def broadcast(server: tuple[int, int], path: str, text: bytes, seconds: float, sockets: int) -> float:
    """Broadcasts per second that the server manages: one socket sends a text, and all get the answer."""
    [rate] = _broadcast(server, path, text, seconds, sockets, 0)
    return rate


def delays(
    server: tuple[int, int], path: str, text: bytes, seconds: float, sockets: int, rate: float
) -> tuple[float, float]:
    """The median and the 99th percentile of the delay of a broadcast in milliseconds, at this rate."""
    median, p99 = _broadcast(server, path, text, seconds, sockets, rate)
    return median, p99


def _broadcast(
    server: tuple[int, int], path: str, text: bytes, seconds: float, sockets: int, rate: float
) -> list[float]:
    # A group of its own: what is still on its way to an earlier group may arrive at any time.
    path = f"{path}{next(_numbers)}"
    request = clients.frame(text)
    answer = clients.answer(server[0], f"{path}-first", request, GREETING)
    numbers = (seconds, len(request), answer, clients.answer_size(len(GREETING)), rate)
    return _run("broadcast", server, path, sockets, numbers, request)[0]


def _run(
    work: str,
    server: tuple[int, int],
    path: str,
    sockets: int,
    numbers: tuple[float, ...],
    request: bytes = b"",
) -> tuple[list[float], float]:
    """What the client prints, and the CPU time that the server used while it measured."""
    port, pid = server
    handshake = clients.HANDSHAKE.format(path=path).encode()
    arguments = (port, sockets, numbers[0], len(handshake), *numbers[1:])
    client = subprocess.Popen(
        [compiled(), work, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
        found = client.communicate(b"go\n")[0]
        used = processor_seconds(pid) - before
    if client.returncode:
        sys.exit("The client failed.")
    return [float(number) for number in found.split()], used


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
