"""The cost of one message to a group: this library, plain Channels, FastAPI's manager and a bare loop.

    python -m benchmarks.broadcast [--quick | --scale | --order]

In process: no server, the in-memory layer. On daphne: the client is one process that reads plain sockets;
Redis is a separate redis-server (channels_redis pub/sub). FastAPI's manager is also measured on uvicorn, as
its users run it. Microseconds per receiving member, of wall-clock
time and of the server's CPU time. `--scale`: more members, processes and groups. `--order`: 2,000
sockets on two and four processes, with every message of every member checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from benchmarks import clients
from benchmarks.group_peers import MAKERS, MESSAGE, TEXT, configure
from benchmarks.load import GREETING
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, end_in_order, in_turn, markdown, rounds
from benchmarks.servers import (
    ROOT,
    Serving,
    allow_many_files,
    environment,
    free_port,
    processor_seconds,
    wait_for,
)

FRAME = clients.answer_size(len(TEXT))
SIZES = (10, 100, 1000, 5000)
SECONDS = 1.0

# The peer, the kind of daphne or another server, and the channel layer.
REDIS, MEMORY, UVICORN = "Redis", "in memory", "uvicorn"
SERVED = {
    f"{OURS}, {REDIS}": (OURS, "complete", REDIS),
    f"{OURS}, {MEMORY}": (OURS, "complete", MEMORY),
    f"channels, daphne stock, {REDIS}": ("channels", "stock", REDIS),
    f"channels, {REDIS}": ("channels", "complete", REDIS),
    "fastapi's manager": ("fastapi", "complete", MEMORY),
    "fastapi's manager, uvicorn": ("fastapi", UVICORN, MEMORY),
    "bare loop, daphne stock": ("bare", "stock", MEMORY),
    "bare loop": ("bare", "complete", MEMORY),
}
# This library comes first, because the ratios are of costs; with the target for 1,000 members.
AIMS = {
    f"channels, {REDIS}": ">= 10",
    "fastapi's manager": ">= 1",
    "fastapi's manager, uvicorn": "",
    "bare loop, daphne stock": ">= 2.5",
    "bare loop": "",
}


def tables(quick: bool) -> Iterator[Table]:
    yield in_process(quick)
    yield from on_daphne(quick)


# In process: no server, no sockets, and the in-memory layer


def in_process(quick: bool) -> Table:
    table = Table("A broadcast in process", "us per member")
    for members in SIZES[:1] if quick else SIZES:
        runs = {peer: partial(in_child, peer, members, quick) for peer in (OURS, "channels")}
        ratio = Ratio("channels", OURS, ">= 100" if members == 1000 else "")
        table.add(f"{members:,} members", in_turn(rounds(3, quick), runs), ratio)
    return table


def in_child(peer: str, members: int, quick: bool) -> float:
    """Measure in a separate process, because settings apply to a whole process."""
    command = [sys.executable, "-m", "benchmarks.broadcast", "--in-process", peer, str(members)]
    command += ["--quick"] if quick else []
    found = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True, timeout=120
    )
    return float(found.stdout)


class Silent:
    """A connection to an application that counts the messages it gets."""

    count = awaited = 0
    done: asyncio.Event

    def __init__(self, app: Any) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": "/g", "headers": [], "query_string": b""}
        self.task = asyncio.create_task(app(scope, self.incoming.get, self.send))

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            Silent.count += 1
            if Silent.count == Silent.awaited:
                Silent.done.set()


async def delivered(peer: str, members: int, seconds: float) -> float:
    """Microseconds per member, from the send until the last member has received the message."""
    from channels.layers import get_channel_layer

    from fastws_compat.groups import Group

    configure()
    app = MAKERS[peer]()
    Silent.count, Silent.awaited, Silent.done = 0, members, asyncio.Event()
    sockets = [Silent(app) for _ in range(members)]
    await Silent.done.wait()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        Silent.count, Silent.done = 0, asyncio.Event()
        begin = time.perf_counter()
        if peer == OURS:
            await Group("g").asend(MESSAGE)
        else:
            await get_channel_layer().group_send("g", {"type": "tell", "data": MESSAGE})
        await Silent.done.wait()
        times.append(time.perf_counter() - begin)
    for socket_ in sockets:
        socket_.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait([socket_.task for socket_ in sockets], timeout=30)
    return statistics.median(times) / members * 1e6


# On daphne


def on_daphne(quick: bool) -> Iterator[Table]:
    sizes = SIZES[:1] if quick else SIZES
    by_clock: dict[int, Samples] = {members: {} for members in sizes}
    by_cpu: dict[int, Samples] = {members: {} for members in sizes}
    allow_many_files()
    with redis() as url:
        for _ in range(rounds(3, quick)):
            for name, (peer, kind, layer) in SERVED.items():
                with serving(peer, kind, url if layer == REDIS else "").process() as server:
                    for members in sizes:
                        clock, cpu = broadcast(server, members, 0.1 if quick else SECONDS)
                        by_clock[members].setdefault(name, []).append(clock)
                        by_cpu[members].setdefault(name, []).append(max(cpu, 0.01))
    for title, found in (
        ("A broadcast on daphne", by_clock),
        ("A broadcast on daphne, the server's own processor time", by_cpu),
    ):
        table = Table(title, "us per member")
        for members, samples in found.items():
            aimed = members == 1000
            ratios = (Ratio(over, f"{OURS}, {REDIS}", aim if aimed else "") for over, aim in AIMS.items())
            table.add(f"{members:,} members", samples, *ratios)
        yield table


def serving(peer: str, kind: str, layer: str, gc_freeze: bool = True) -> Serving:
    """A peer on daphne, "complete" or "stock", or on uvicorn."""
    server, daphne = (UVICORN, "stock") if kind == UVICORN else ("daphne", kind)
    return Serving(peer, server, daphne, "benchmarks.group_peers:app", layer, gc_freeze)


def broadcast(server: tuple[int, int], members: int, seconds: float) -> tuple[float, float]:
    """Microseconds per member for one message to all: wall-clock time, and the server's CPU time."""
    port, pid = server
    audience = Audience(connect(port, "g") for _ in range(members))
    try:
        audience.broadcast()
        times, before = [], processor_seconds(pid)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = time.perf_counter()
            audience.broadcast()
            times.append(time.perf_counter() - begin)
        cpu = (processor_seconds(pid) - before) / len(times)
        return statistics.median(times) / members * 1e6, cpu / members * 1e6
    finally:
        audience.close()


class Audience:
    """Client sockets that are members of a group."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self.sockets: list[socket.socket] = []
        self._by_fileno: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        for client in sockets:
            self.add(client)

    def add(self, client: socket.socket) -> None:
        self.sockets.append(client)
        self._by_fileno[client.fileno()] = client
        self._poll.register(client.fileno(), select.EPOLLIN)

    def broadcast(self) -> None:
        """Make the first socket send to all, and wait until all have received the message."""
        ask(self.sockets[0], "send 1")
        self.drain(len(self.sockets) * FRAME)

    def drain(self, missing: int, got: dict[int, bytearray] | None = None) -> None:
        """Read `missing` bytes; add what each socket receives to `got`, if given."""
        while missing > 0:
            ready = self._poll.poll(30)
            if not ready:
                raise SystemExit(f"{missing} bytes never came.")
            for fileno, _ in ready:
                data = self._by_fileno[fileno].recv(65536)
                missing -= len(data)
                if got is not None:
                    got[fileno] += data

    def close(self) -> None:
        for client in self.sockets:
            client.close()
        self._poll.close()


def connect(port: int, group: str, number: int = 0) -> socket.socket:
    """A client whose application has reported that it is ready; `number` counts those of one server.

    They come from several addresses: once half of the local ports of one are used, the kernel takes
    milliseconds to find another.
    """
    return clients.connect(port, f"/{group}", GREETING, f"127.0.0.{1 + number // 10_000}")


def ask(client: socket.socket, text: str) -> None:
    client.sendall(clients.frame(text.encode()))


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis server that runs inside the block."""
    from tests.redis_server import find_executable

    executable = find_executable()
    if executable is None:
        sys.exit("This needs a redis-server.")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "20000"]
    process = subprocess.Popen([executable, "--port", str(port), *options], stdout=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


# Growth, order and completeness


@contextmanager
def several(processes: int, layer: str) -> Iterator[list[tuple[int, int]]]:
    """The ports and pids of this library's servers that share a layer."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving(OURS, "complete", layer).process()) for _ in range(processes)]


def scale() -> None:
    heads = f"{'members':>8}{'processes':>11}{'groups':>8}"
    print(f"{heads}{'ms per broadcast':>18}{'CPU us each':>13}{'deliveries/s':>14}")
    cases = [(10, 1, 1), (100, 1, 1), (1000, 1, 1), (10_000, 1, 1)]
    cases += [(1000, 2, 1), (1000, 4, 1), (1000, 1, 10), (1000, 1, 100), (1000, 1, 1000)]
    with redis() as layer:
        for members, processes, groups in cases:
            seconds, cpu, rate = grown(members, processes, groups, 10 if members > 1000 else 100, layer)
            case = f"{members:>8,}{processes:>11}{groups:>8,}"
            print(f"{case}{seconds * 1000:>18.2f}{cpu * 1e6:>13.1f}{rate:>14,.0f}", flush=True)


def grown(members: int, processes: int, groups: int, times: int, layer: str) -> tuple[float, float, float]:
    """Seconds per broadcast to one group, the servers' CPU seconds per delivery, and deliveries
    per second when all groups are sent to at once.
    """
    with several(processes, layer) as servers:
        audience = Audience(
            connect(servers[number % processes][0], f"g{number // processes % groups}")
            for number in range(members)
        )
        first = sum(number // processes % groups == 0 for number in range(members))
        took, before = [], sum(processor_seconds(pid) for _, pid in servers)
        for _ in range(times):
            begin = time.perf_counter()
            ask(audience.sockets[0], "send 1")
            audience.drain(first * FRAME)
            took.append(time.perf_counter() - begin)
        cpu = (sum(processor_seconds(pid) for _, pid in servers) - before) / times / first
        begin = time.perf_counter()
        for _ in range(max(1, times // 2)):
            for number in range(groups):
                ask(audience.sockets[number * processes], "send 1")
            audience.drain(members * FRAME)
        rate = max(1, times // 2) * members / (time.perf_counter() - begin)
        audience.close()
        return statistics.median(took), cpu, rate


def order() -> None:
    with redis() as layer:
        for processes in (2, 4):
            rate = in_order(2000, processes, 200, layer)
            print(f"2,000 sockets, {processes} processes, 200 messages: all in order, {rate:,.0f} a second")


def in_order(members: int, processes: int, messages: int, layer: str) -> float:
    """Deliveries per second, while checking that every member gets every message in order."""
    numbered = [{**MESSAGE, "n": f"{number:07}"} for number in range(messages)]
    texts = [json.dumps(item, separators=(",", ":")).encode() for item in numbered]
    expected = b"".join(bytes((0x81, len(text))) + text for text in texts)
    with several(processes, layer) as servers:
        audience = Audience(connect(servers[number % processes][0], "g") for number in range(members))
        got = {client.fileno(): bytearray() for client in audience.sockets}
        begin = time.perf_counter()
        ask(audience.sockets[0], f"send {messages} numbered")
        audience.drain(members * len(expected), got)
        elapsed = time.perf_counter() - begin
        if any(data != expected for data in got.values()):
            sys.exit("A member missed something.")
        audience.close()
        return members * messages / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--scale", action="store_true", help="members, processes and groups grow")
    parser.add_argument("--order", action="store_true", help="2,000 sockets, two and four processes")
    parser.add_argument("--in-process", nargs=2, metavar=("PEER", "MEMBERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    end_in_order()
    allow_many_files()
    if options.in_process:
        peer, members = options.in_process
        seconds = 0.05 if options.quick else SECONDS
        print(asyncio.run(delivered(peer, int(members), seconds)))
    elif options.scale:
        scale()
    elif options.order:
        order()
    else:
        for table in tables(options.quick):
            print(markdown(table.data()), flush=True)


if __name__ == "__main__":
    main()
