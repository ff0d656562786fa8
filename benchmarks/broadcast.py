"""What it costs to send to a group: this library, plain Channels and FastAPI's manager, side by side.

    python benchmarks/broadcast.py [--quick | --scale | --order]

Every peer runs on the same daphne, completed by this library, each run in a new process; the client is one
process that reads plain sockets. Layer: Redis (channels_redis pub/sub, a redis-server of its own) unless the
name says otherwise. Default: the peers, with 1,000 members, and in process without a server. `--scale`:
members, processes and groups grow. `--order`: 2,000 sockets on two and four processes, all messages checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import django  # noqa: E402
from django.conf import settings  # noqa: E402

PEER = os.environ.get("PEER", "")
REDIS = os.environ.get("REDIS_URL", "")
IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 100_000}}
PUBSUB = {
    "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "CONFIG": {"hosts": [{"address": REDIS, "socket_timeout": None}]},
}
if not settings.configured:
    settings.configure(
        CHANNEL_LAYERS={"default": PUBSUB if REDIS else IN_MEMORY},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        FASTWS={"SLOW_CONSUMER_QUEUE": 100_000},
    )
    django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402

import fastws_compat  # noqa: E402
import fastws_compat.groups  # noqa: E402

MESSAGE = {"user": "ann", "text": "x" * 32}
FRAME = 2 + len(json.dumps(MESSAGE, separators=(",", ":")))

# The peers: the path of a socket is its group; the text "send N" sends N messages to the group.

ours = fastws_compat.FastAPI()


@ours.websocket("/{name}")
async def member(websocket: fastws_compat.WebSocket, name: str) -> None:
    group = fastws_compat.groups.Group(name)
    await websocket.accept()
    await websocket.join(group)
    await websocket.send_text("ready")
    async for text in websocket.iter_text():
        for number in range(int(text.split()[1])):
            await group.asend({**MESSAGE, "n": f"{number:07}"} if text.endswith("numbered") else MESSAGE)


class Consumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        self.name = self.scope["path"].strip("/")
        await self.channel_layer.group_add(self.name, self.channel_name)
        await self.accept()
        await self.send("ready")

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.name, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any) -> None:
        for _number in range(int((text_data or "").split()[1])):
            await self.channel_layer.group_send(self.name, {"type": "tell", "data": MESSAGE})

    async def tell(self, event: dict[str, Any]) -> None:
        await self.send_json(event["data"])


def fastapi_manager() -> Any:
    """The manager of FastAPI's documentation, which knows one process and no layer."""
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect

    globals()["WebSocket"] = WebSocket  # where the annotation below is looked up
    app = FastAPI()
    active: list[WebSocket] = []

    @app.websocket("/{name}")
    async def endpoint(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        active.append(websocket)
        await websocket.send_text("ready")
        try:
            while True:
                text = await websocket.receive_text()
                for _ in range(int(text.split()[1])):
                    for other in active:
                        await other.send_json(MESSAGE)
        except WebSocketDisconnect:
            active.remove(websocket)

    return app


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await applications[PEER](scope, receive, send)


applications: dict[str, Any] = {"groups": ours, "channels": Consumer.as_asgi()}
if PEER == "fastapi":
    applications["fastapi"] = fastapi_manager()
if PEER:
    from fastws_compat import daphne

    daphne.install()


# In process: no server, no sockets, the in-memory layer


class Silent:
    """A connection to an application; counts what comes."""

    count = 0
    awaited = 0
    done: asyncio.Event

    def __init__(self, peer: str) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": "/g", "headers": [], "query_string": b""}
        self.task = asyncio.create_task(applications[peer](scope, self.incoming.get, self.send))

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            Silent.count += 1
            if Silent.count == Silent.awaited:
                Silent.done.set()


async def in_process(peer: str, members: int, rounds: int) -> float:
    """Seconds from a send until the last member has it."""
    from channels.layers import get_channel_layer

    Silent.count, Silent.awaited, Silent.done = 0, members, asyncio.Event()
    sockets = [Silent(peer) for _ in range(members)]
    await Silent.done.wait()
    times = []
    for _ in range(rounds):
        Silent.count, Silent.done = 0, asyncio.Event()
        begin = time.perf_counter()
        if peer == "groups":
            await fastws_compat.groups.Group("g").asend(MESSAGE)
        else:
            await get_channel_layer().group_send("g", {"type": "tell", "data": MESSAGE})
        await Silent.done.wait()
        times.append(time.perf_counter() - begin)
    for socket_ in sockets:
        socket_.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait([socket_.task for socket_ in sockets], timeout=30)
    return statistics.median(times)


# Over daphne


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                sys.exit("A server did not start.")
            select.select([], [], [], 0.02)


@contextmanager
def redis() -> Iterator[str]:
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


@contextmanager
def servers(peer: str, processes: int, layer: str) -> Iterator[tuple[list[int], list[int]]]:
    """The ports and the ids of running servers."""
    ports = [free_port() for _ in range(processes)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PEER": peer, "REDIS_URL": layer}
    command = [sys.executable, "-m", "daphne", "-v", "0", "benchmarks.broadcast:app", "-p"]
    running = [
        subprocess.Popen([*command, str(port)], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
        for port in ports
    ]
    try:
        for process, port in zip(running, ports, strict=True):
            wait_for(process, port)
        yield ports, [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def connect(port: int, group: str) -> socket.socket:
    """A client that its application has called ready."""
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(
        f"GET /{group} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"ready"):
        answer += client.recv(4096)
    return client


def ask(client: socket.socket, text: str) -> None:
    client.sendall(bytes((0x81, 0x80 | len(text))) + bytes(4) + text.encode())


def drain(clients: dict[int, socket.socket], poll: Any, missing: int) -> None:
    while missing > 0:
        ready = poll.poll(30)
        if not ready:
            raise SystemExit(f"{missing} bytes never came.")
        for fileno, _ in ready:
            missing -= len(clients[fileno].recv(65536))


def cpu_seconds(pids: list[int]) -> float:
    """What the processes have used so far; unlike the clock it does not see who else is on the machine."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def over_daphne(
    peer: str, members: int, rounds: int, processes: int = 1, groups: int = 1, layer: str = ""
) -> tuple[float, float, float]:
    """Seconds per broadcast to one group, the servers' CPU seconds for a delivery of it, and deliveries per
    second when all groups are sent to at once.
    """
    with servers(peer, processes, layer) as (ports, pids):
        sockets = [
            connect(ports[number % processes], f"g{number // processes % groups}")
            for number in range(members)
        ]
        clients = {client.fileno(): client for client in sockets}
        poll = select.epoll()
        for fileno in clients:
            poll.register(fileno, select.EPOLLIN)
        first = sum(number // processes % groups == 0 for number in range(members))
        times, before = [], cpu_seconds(pids)
        for _ in range(rounds):
            begin = time.perf_counter()
            ask(sockets[0], "send 1")
            drain(clients, poll, first * FRAME)
            times.append(time.perf_counter() - begin)
        cpu = (cpu_seconds(pids) - before) / rounds / first
        begin = time.perf_counter()
        for _ in range(max(1, rounds // 2)):
            for number in range(groups):
                ask(sockets[number * processes], "send 1")
            drain(clients, poll, members * FRAME)
        rate = max(1, rounds // 2) * members / (time.perf_counter() - begin)
        for client in sockets:
            client.close()
        return statistics.median(times), cpu, rate


def in_order(members: int, processes: int, messages: int, layer: str) -> float:
    """Deliveries per second while every member is checked to get every message in its order."""
    numbered = [{**MESSAGE, "n": f"{number:07}"} for number in range(messages)]
    texts = [json.dumps(item, separators=(",", ":")).encode() for item in numbered]
    expected = b"".join(bytes((0x81, len(text))) + text for text in texts)
    with servers("groups", processes, layer) as (ports, _):
        sockets = [connect(ports[number % processes], "g") for number in range(members)]
        clients = {client.fileno(): client for client in sockets}
        got = {fileno: bytearray() for fileno in clients}
        poll = select.epoll()
        for fileno in clients:
            poll.register(fileno, select.EPOLLIN)
        begin = time.perf_counter()
        ask(sockets[0], f"send {messages} numbered")
        missing = members * len(expected)
        while missing:
            for fileno, _ in poll.poll(30):
                data = clients[fileno].recv(65536)
                got[fileno] += data
                missing -= len(data)
        elapsed = time.perf_counter() - begin
        assert all(data == expected for data in got.values()), "a member missed something"
        for client in sockets:
            client.close()
        return members * messages / elapsed


def peers(quick: bool) -> None:
    members, rounds = (200, 20) if quick else (1000, 40)
    walls: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    for _ in range(1 if quick else 3):
        for peer in ("groups", "channels"):
            seconds = asyncio.run(in_process(peer, members, rounds * 5 if peer == "groups" else rounds // 4))
            walls.setdefault(f"{peer}, in process", []).append(seconds)
        with redis() as layer:
            for peer, url in (("groups", layer), ("channels", layer), ("fastapi", ""), ("groups", "")):
                name = f"{peer}, daphne" + (", Redis" if url else ", in memory")
                wall, cpu, _ = over_daphne(
                    peer, members, rounds // (4 if peer == "channels" else 1), layer=url
                )
                walls.setdefault(name, []).append(wall)
                cpus.setdefault(name, []).append(cpu)
    wall_of = {name: statistics.median(values) for name, values in walls.items()}
    cpu_of = {name: statistics.median(values) for name, values in cpus.items()}
    print(f"{f'one message to {members:,} members':<32}{'ms':>9}{'deliveries/s':>14}{'CPU us each':>13}")
    for name, seconds in wall_of.items():
        cpu_text = f"{cpu_of[name] * 1e6:>13.1f}" if name in cpu_of else ""
        print(f"{name:<32}{seconds * 1000:>9.2f}{members / seconds:>14,.0f}{cpu_text}")
    compare(wall_of, cpu_of, "channels, in process", "groups, in process")
    compare(wall_of, cpu_of, "channels, daphne, Redis", "groups, daphne, Redis")
    compare(wall_of, cpu_of, "fastapi, daphne, in memory", "groups, daphne, Redis")


def compare(wall: dict[str, float], cpu: dict[str, float], one: str, other: str) -> None:
    by_cpu = f", by CPU {cpu[one] / cpu[other]:.2f}" if one in cpu else ""
    print(f"{one} / {other}: {wall[one] / wall[other]:.2f}{by_cpu}")


def scale() -> None:
    heads = f"{'members':>8}{'processes':>11}{'groups':>8}"
    print(f"{heads}{'ms per broadcast':>18}{'CPU us each':>13}{'deliveries/s':>14}")
    cases = [(10, 1, 1), (100, 1, 1), (1000, 1, 1), (10_000, 1, 1)]
    cases += [(1000, 2, 1), (1000, 4, 1), (1000, 1, 10), (1000, 1, 100), (1000, 1, 1000)]
    with redis() as layer:
        for members, processes, groups in cases:
            rounds = 10 if members > 1000 else 100
            seconds, cpu, rate = over_daphne("groups", members, rounds, processes, groups, layer)
            case = f"{members:>8,}{processes:>11}{groups:>8,}"
            print(f"{case}{seconds * 1000:>18.2f}{cpu * 1e6:>13.1f}{rate:>14,.0f}", flush=True)


def order() -> None:
    with redis() as layer:
        for processes in (2, 4):
            rate = in_order(2000, processes, 200, layer)
            print(f"2,000 sockets, {processes} processes, 200 messages: all in order, {rate:,.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run with 200 members")
    parser.add_argument("--scale", action="store_true", help="members, processes and groups grow")
    parser.add_argument("--order", action="store_true", help="2,000 sockets, two and four processes")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.scale:
        scale()
    elif arguments.order:
        order()
    else:
        peers(arguments.quick)


if __name__ == "__main__":
    main()
