"""Mixed traffic and faults on many sockets for some time: what leaks, and how memory develops.

Echoes, bursts, floods, idle sockets, rooms in a group, and queries before and while a socket is open. Clients
close, reset, half-close or stop reading, and make endpoints raise and return.

    python -m benchmarks.soak [--seconds 600] [--sockets 500] [--server daphne|uvicorn]
    python -m benchmarks.soak --pressure [--seconds 30]

`--pressure` runs 50 clients that never read while the server sends endlessly, and then 50 that send at line
rate to an endpoint that takes 10 ms per message. It measures the memory, and the effect on other sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.groups import Group
from fastws_compat.groups import hub as hubs

ROOT = Path(__file__).resolve().parents[1]
CHUNK = "x" * 65536
MIB = 1024 * 1024
# Two pools of eight, the main thread, and the single threads of Django and the event loop.
MOST_THREADS = 20
# An endpoint that sleeps this long does not notice that its client sends something and leaves.
ASLEEP = 30
HELD = ("tasks", "files", "databases", "members")

# The server's side

app = FastAPI(rate_limit="100000/s", idle_timeout=120)
books: Counter[str] = Counter()
lock = threading.Lock()
directory = tempfile.TemporaryDirectory(prefix="fastws-soak-")
database = f"{directory.name}/database"


def set_up() -> None:
    """Configure Django with one SQLite file and a channel layer that drops nothing on a busy machine."""
    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        CHANNEL_LAYERS={"default": layer},
    )
    django.setup()


if __name__ != "__main__":  # the server imports this
    set_up()


def query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


async def resource() -> AsyncIterator[None]:
    books["began"] += 1
    try:
        yield
    finally:
        await asyncio.sleep(0)
        books["ended"] += 1


def sync_resource() -> Iterator[None]:
    enter("sync began")
    try:
        query()
        yield
    finally:
        enter("sync ended")


def enter(what: str) -> None:
    """Count an event that occurs in threads."""
    with lock:
        books[what] += 1


COUNTED = [Depends(resource), Depends(sync_resource)]


@app.websocket("/echo", dependencies=COUNTED)
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        match await websocket.receive_text():
            case "return":
                return
            case "raise":
                raise LookupError("asked for")
            case "sleep":
                await asyncio.sleep(ASLEEP)
            case "query":
                await sync_to_async(query)()
                await websocket.send_text("query")
            case text:
                await websocket.send_text(text)


@app.websocket("/room/{name}", dependencies=COUNTED)
async def room(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    await websocket.join(name)
    async for text in websocket.iter_text():
        if text == "return":
            return
        if text == "raise":
            raise LookupError("asked for")
        await Group(name).asend(text)


@app.websocket("/flood", dependencies=COUNTED)
async def flood(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(CHUNK)


@app.websocket("/slow", dependencies=COUNTED)
async def slow(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.receive_text()
        await asyncio.sleep(0.01)


@app.websocket("/stats", idle_timeout=None)
async def stats(websocket: WebSocket) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_json({**held(), **books})


def held() -> dict[str, int]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = list(open_files())
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(files),
        "databases": files.count(database),
        "members": sum(len(members) for hub in hubs_here() for members in hub.members.values()),
    }


def open_files() -> Iterator[str]:
    """The targets of this process's file descriptors, without that of the listing itself."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{number}")


def hubs_here() -> list[hubs.Hub]:
    return list(hubs.hubs.get(asyncio.get_running_loop(), {}).values())


# The clients' side


@contextmanager
def server(name: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    where = {"daphne": ["--bind", "127.0.0.1", "-v", "0"], "uvicorn": ["--log-level", "critical"]}[name]
    command = [sys.executable, "-m", name, *where, "--port", str(port), "benchmarks.soak:app"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def opened(port: int, path: str) -> Any:
    from websockets.asyncio.client import connect

    options: Any = {"compression": None, "proxy": None, "ping_interval": None}
    return connect(f"ws://127.0.0.1:{port}{path}", max_queue=4, close_timeout=2, **options)


async def ask(watcher: Any) -> dict[str, int]:
    await watcher.send("?")
    found: dict[str, int] = json.loads(await watcher.recv())
    return found


async def talk(client: Any, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 30)):
        text = "x" * dice.choice((1, 50, 500, 20_000))
        await client.send(text)
        assert await client.recv() == text
        await asyncio.sleep(dice.random())


async def ask_database(client: Any, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 10)):
        await client.send("query")
        assert await client.recv() == "query"
        await asyncio.sleep(dice.random())


async def chat(client: Any, dice: random.Random) -> None:
    """Send a message to a room and read until it comes back, among the messages of others."""
    for number in range(dice.randint(1, 30)):
        text = f"{number} {dice.random()}"
        await client.send(text)
        while await client.recv() != text:
            pass
        await asyncio.sleep(dice.random())


async def burst(client: Any, dice: random.Random) -> None:
    count = dice.randint(10, 200)
    for number in range(count):
        await client.send(str(number))
    for number in range(count):
        assert await client.recv() == str(number)


async def idle(client: Any, dice: random.Random) -> None:
    await asyncio.sleep(dice.random() * 10)


async def deaf(client: Any, dice: random.Random) -> None:
    """Leave while the endpoint is not receiving."""
    await client.send("sleep")


Traffic = Callable[[Any, random.Random], Awaitable[None]]
ON_ECHO: tuple[Traffic, ...] = (talk, talk, burst, ask_database, idle, deaf)
# Where the server sends without end, an idle client is one that is slow to read.
ON: dict[str, tuple[Traffic, ...]] = {"/echo": ON_ECHO, "/room": (chat, chat, idle), "/flood": (idle, deaf)}
PATHS = ("/echo",) * 7 + ("/room",) * 2 + ("/flood",)
# With this many, each has five members on average.
ROOMS = 20


async def leave(client: Any, dice: random.Random) -> None:
    match dice.choice(("close", "reset", "half-close", "raise", "return")):
        case "close":
            await client.close()
        case "reset":
            client.transport.abort()
        case "half-close":
            client.transport.write_eof()
        case last:
            with suppress(TimeoutError):  # an endpoint that sleeps or floods does not hear it
                async with asyncio.timeout(5):
                    await client.send(last)
                    await client.wait_closed()


async def live(port: int, seed: int, until: float) -> Counter[str]:
    """Open one connection after another and return their outcomes."""
    dice, outcomes = random.Random(seed), Counter[str]()
    while time.monotonic() < until:
        path = dice.choice(PATHS)
        traffic = dice.choice(ON[path])
        room = f"/room{dice.randrange(ROOMS)}" if path == "/room" else ""
        outcomes[await one_life(port, path + room, traffic, dice)] += 1
    return outcomes


async def one_life(port: int, path: str, traffic: Traffic, dice: random.Random) -> str:
    from websockets import ConnectionClosed, InvalidHandshake

    try:
        async with opened(port, path) as client:
            await traffic(client, dice)
            await leave(client, dice)
    except ConnectionClosed as exc:
        return f"closed with {exc.rcvd.code}" if exc.rcvd else "cut off"
    except (OSError, InvalidHandshake) as exc:
        return f"not opened ({type(exc).__name__})"
    return "as meant"


async def soak(port: int, sockets: int, seconds: float) -> None:
    async with opened(port, "/stats") as watcher:
        before = await warm(port, watcher)
        start = time.monotonic()
        clients = [asyncio.create_task(live(port, seed, start + seconds)) for seed in range(sockets)]
        samples: list[tuple[float, float]] = []
        while time.monotonic() < start + seconds:
            await asyncio.sleep(min(5, seconds / 20))
            now = await ask(watcher)
            samples.append((time.monotonic() - start, now["memory"] / MIB))
            print(f"{samples[-1][0]:6.0f} s  {line(now)}", flush=True)
        outcomes = sum(await asyncio.gather(*clients), Counter[str]())
        after = await settled(watcher, before)
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope * 60 if len(half) > 2 else 0
    print(f"{outcomes.total()} connections: {', '.join(f'{n} {what}' for what, n in outcomes.most_common())}")
    print(f"memory in the second half: {slope:+.2f} MiB a minute")
    print(f"before  {line(before)}\nafter   {line(after)}")
    assert still_open(after) == still_open(before), "a cleanup did not run, or ran twice"
    assert back(after, before), "something is left"


async def warm(port: int, watcher: Any) -> dict[str, int]:
    """The resources of the process once its threads and the connection of the async ORM exist."""
    before = await ask(watcher)
    clients = [await opened(port, "/echo") for _ in range(40)]
    await ask_database(clients[0], random.Random(0))
    await asyncio.gather(*(client.close() for client in clients))
    return await settled(watcher, {**before, "files": before["files"] + 1, "databases": 1})


async def settled(watcher: Any, before: dict[str, int], timeout: float = ASLEEP + 10) -> dict[str, int]:
    """The resources of the process once they are no more than before, or after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        now = await ask(watcher)
        if back(now, before) or time.monotonic() > deadline:
            return now
        await asyncio.sleep(0.2)


def back(now: dict[str, int], before: dict[str, int]) -> bool:
    """Whether everything has been released, apart from the connections of the thread pools."""
    ended = all(map(int.__le__, still_open(now), still_open(before)))
    return ended and all(now[name] <= before[name] for name in HELD) and now["threads"] <= MOST_THREADS


def still_open(books: dict[str, int]) -> list[int]:
    """The number of dependencies of each kind that were not torn down; negative if torn down twice."""
    return [books.get(f"{kind}began", 0) - books.get(f"{kind}ended", 0) for kind in ("", "sync ")]


def line(found: dict[str, int]) -> str:
    return (
        f"{found['memory'] / MIB:6.1f} MiB  {found['tasks']:5} tasks  {found['threads']:3} threads  "
        f"{found['files']:5} files  {found['databases']:2} databases  {found['members']:4} members  "
        f"{found.get('began', 0) - found.get('ended', 0):5} open"
    )


# Pressure


async def pressure(port: int, seconds: float) -> None:
    async with opened(port, "/stats") as watcher, opened(port, "/echo") as other:
        for name, client in (("never read, /flood", silent), ("line rate, /slow", hasty)):
            before = (await warm(port, watcher))["memory"]
            tasks = [asyncio.create_task(client(port)) for _ in range(50)]
            delays, most = await measure(other, watcher, seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            median, p99 = (sorted(delays)[int(len(delays) * share)] * 1000 for share in (0.5, 0.99))
            print(
                f"{name}: {(most - before) / 50 / 1024:.0f} KiB a socket at most; "
                f"another socket waits {median:.1f} ms, p99 {p99:.1f} ms"
            )


async def measure(other: Any, watcher: Any, seconds: float) -> tuple[list[float], int]:
    delays, most, until = [], 0, time.monotonic() + seconds
    while time.monotonic() < until:
        start = time.perf_counter()
        await other.send("?")
        await other.recv()
        delays.append(time.perf_counter() - start)
        if len(delays) % 20 == 0:
            most = max(most, (await ask(watcher))["memory"])
        await asyncio.sleep(0.01)
    return delays, most


async def silent(port: int) -> None:
    """Start the flood and never read. A plain socket, because a library would read in the background."""
    reader, writer = await hello(port, "/flood")
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    try:
        await asyncio.Event().wait()
    finally:
        writer.transport.abort()


async def hasty(port: int) -> None:
    _, writer = await hello(port, "/slow")
    frame = b"\x81\xa0" + bytes(4) + b"y" * 32
    try:
        while True:
            writer.write(frame * 1000)
            await writer.drain()
    finally:
        writer.transport.abort()


async def hello(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--server", choices=("daphne", "uvicorn"), default="daphne")
    parser.add_argument("--pressure", action="store_true")
    arguments = parser.parse_args()
    with server(arguments.server) as port:
        if arguments.pressure:
            asyncio.run(pressure(port, arguments.seconds or 30))
        else:
            asyncio.run(soak(port, arguments.sockets, arguments.seconds or 600))


if __name__ == "__main__":
    main()
