"""Recovery on real servers: several processes, a Redis that fails, and layers that lose messages.

Numbers are small by default, and as large as in the specification in `.ci/slow`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import websockets
from channels.layers import channel_layers
from django.db import connection, transaction
from redis import Redis

from fastws_compat.exceptions import GroupSendError, GroupStoreError
from fastws_compat.groups import Group
from fastws_compat.groups.storage import spliced_layer, store_of
from fastws_compat.layers import client as layers
from tests.ports import free_port
from tests.redis_server import RedisServer, running
from tests.redis_server import redis_server as redis_server
from tests.servers.client import Raw
from tests.servers.conftest import Running, Server, in_turn, on_servers
from tests.servers.monitor import Monitor
from tests.sizes import size

pytestmark = [
    pytest.mark.servers,
    pytest.mark.redis,
    pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning"),
]

APP = "tests.servers.recovery:app"
PROCESSES = size("FASTWS_PROCESSES", 2, 4)
SOCKETS = size("FASTWS_SOCKETS", 20, 200)
MESSAGES = size("FASTWS_MESSAGES", 300, 5000)
ENTRIES = size("FASTWS_ENTRIES", 5000, 5000)
CHECK_SECONDS = 0.5
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
ROOM = Group("room.1")


class Site:
    """Processes and this one, with the same settings."""

    def __init__(self, settings: Any, layer: RedisServer | Address, **fastws: Any) -> None:
        self.layer = layer
        self.fastws: dict[str, Any] = {
            "GROUPS": {"room.*": {"history": {"count": 10_000}}},
            "CHECK_SECONDS": CHECK_SECONDS,
            "LAYER_TIMEOUT": 1,
            "RECONNECT_SPREAD": 3,
            **fastws,
        }
        settings.FASTWS = self.fastws
        settings.CHANNEL_LAYERS = {"default": self.config(PUBSUB)}

    def config(self, backend: str, **config: Any) -> dict[str, Any]:
        return {"BACKEND": backend, "CONFIG": {"hosts": self.layer.hosts, **config}}

    def start(self, server: Server, backend: str = PUBSUB, **config: Any) -> Running:
        settings = {"CHANNEL_LAYERS": {"default": self.config(backend, **config)}, "FASTWS": self.fastws}
        env = {"SETTINGS": json.dumps(settings)}
        return server.start(APP, settings="tests.servers.django_settings", env=env)


class Client:
    """What a client of `live.js` has seen over its connections."""

    def __init__(self) -> None:
        self.position = ""
        self.frames: list[dict[str, Any]] = []
        self.close: tuple[int, str] | None = None
        self.listening: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def listen(self, url: str, reads: asyncio.Event | None = None) -> None:
        """Read until the end; with `reads`, read nothing between the first message and that event."""
        async with websockets.connect(
            f"{url}?fastws={quote(self.claim)}",
            compression=None,
            proxy=None,
            open_timeout=60,
            max_queue=None if reads is None else 4,
        ) as connection:
            with suppress(websockets.ConnectionClosed):
                async for text in connection:
                    self._take(json.loads(text))
                    if reads is not None and self.offset == 1:
                        await reads.wait()
            self.close = (connection.close_code or 0, connection.close_reason or "")
            self._changed.set()

    @property
    def claim(self) -> str:
        return f"room.1:{self.position}" if self.position else ""

    def _take(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        if frame.get("epoch") is not None:
            self.position = f"{frame['epoch']}:{frame['offset']}"
        elif "offset" in frame and frame["fastws"] == "message":
            self.position = f"{self.position.partition(':')[0]}:{frame['offset']}"
        self._changed.set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["fastws"] == kind]

    @property
    def offsets(self) -> list[int]:
        return [frame["offset"] for frame in self.of("message") if "offset" in frame]

    @property
    def offset(self) -> int:
        return int(self.position.rpartition(":")[2] or -1)

    async def until(self, condition: Callable[[], Any], seconds: float = 40) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"at {self.position} after {self.frames[-5:]}") from None

    async def until_joined(self, times: int = 1) -> None:
        await self.until(lambda: len(self.of("joined")) == times)


@asynccontextmanager
async def connections() -> AsyncIterator[Callable[..., Any]]:
    """Connects clients; what is still open is closed at the end."""
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []

        async def connect(running: Running, client: Client | None = None, path: str = "/ws/room.1") -> Client:
            client = client or Client()
            times = len(client.of("joined")) + 1
            client.listening = asyncio.create_task(client.listen(running.url(path)))
            tasks.append(client.listening)
            await client.until_joined(times)
            return client

        async def end() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(end)
        yield connect


async def recovers(connect: Callable[..., Any], running: Running, position: str) -> bool:
    """Whether a client that comes back with this position is told that it has missed nothing."""
    client = Client()
    client.position = position
    await connect(running, client)
    result: bool = client.of("joined")[0]["recovered"]
    return result


def run(main: Callable[[], Any], seconds: float = 120) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await main()
        await channel_layers["default"].flush()

    layers.health.cache_clear()
    asyncio.run(limited())


def no_traceback(*servers: Running) -> None:
    for each in servers:
        each.stop()
        assert "Traceback" not in each.logs()
        assert "Task was destroyed" not in each.logs()


def no_own_traceback(server: Running) -> None:
    """channels_redis logs the exception with which its connection has ended."""
    server.stop()
    assert "/fastws_compat/" not in server.logs()
    assert "Task was destroyed" not in server.logs()


def memory(server: Running) -> int:
    """The resident memory of a process, in bytes."""
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def send_until(text: str, done: Callable[[], Any]) -> None:
    """Send until something has happened; Redis may not answer yet."""
    async with asyncio.timeout(40):
        while not done():
            with suppress(GroupSendError):
                await ROOM.asend(text)
            await asyncio.sleep(0.1)


@pytest.mark.sized
@pytest.mark.django_db(transaction=True)
@in_turn("kind", {"pubsub": "pubsub", "core": "core", "two steps": "two steps"})
def test_a_layer_that_loses_messages_is_not_noticed(
    kind: str, redis_server: RedisServer, settings: Any, server: Server
) -> None:
    """The core layer also has a capacity of 10, beyond which it drops. Its messages are sent in two steps,
    like those of a layer with a `group_send` of its own; otherwise one script keeps and publishes them.
    """
    site = Site(settings, redis_server, LAYER_TIMEOUT=30)
    backend, config = ("LossyCore", {"capacity": 10}) if kind == "core" else ("LossyPubSub", {})
    if kind == "core":
        settings.CHANNEL_LAYERS = {
            "default": site.config("channels_redis.core.RedisChannelLayer", capacity=10)
        }
    elif kind == "two steps":
        settings.CHANNEL_LAYERS = {"default": site.config("tests.servers.recovery.TwoSteps")}
    assert store_of("default").splices == (kind != "core")
    assert (spliced_layer("default", store_of("default")) is not None) == (kind == "pubsub")
    servers = [site.start(server, f"tests.servers.recovery.{backend}", **config) for _ in range(PROCESSES)]

    async def send(sender: int) -> None:
        for number in range(MESSAGES // 3):
            await ROOM.asend([sender, number])
            await asyncio.sleep(0)

    def send_from_sync_code() -> None:
        for number in range(MESSAGES // 3):
            with transaction.atomic():
                ROOM.send_on_commit([2, number])
        connection.close()

    async def main() -> None:
        async with connections() as connect:
            clients = [await connect(servers[number % len(servers)]) for number in range(SOCKETS)]
            await asyncio.gather(send(0), send(1), asyncio.to_thread(send_from_sync_code))
            expected = [entry.message for entry in await ROOM.ahistory()]
            for client in clients:
                await client.until(lambda client=client: client.offset == len(expected), 300)
                assert client.offsets == list(range(1, len(expected) + 1))
                assert [frame["data"] for frame in client.of("message")] == expected
                assert client.of("lost") == []
                assert client.close is None
            assert len(expected) == 3 * (MESSAGES // 3)

    if kind == "core":
        asyncio.run(main())
    else:
        run(main, 500)
    no_traceback(*servers)


def test_a_restarted_server_and_a_page_that_returns_elsewhere(
    redis_server: RedisServer, settings: Any, daphne: Server, uvicorn: Server
) -> None:
    site = Site(settings, redis_server)
    one, two = site.start(daphne), site.start(uvicorn)

    async def main() -> None:
        async with connections() as connect:
            client = await connect(one)
            raw = await websockets.connect(one.url("/ws/room.1"), compression=None, proxy=None)
            await ROOM.asend(["before"])
            await client.until(lambda: client.offset == 1)
            assert await raw.recv() == '["before"]'
            one.signal()
            await client.until(lambda: client.close)
            assert client.close == (1012, "spread=3"), one.logs()
            await raw.wait_closed()
            assert (raw.close_code, raw.close_reason) == (1012, "")
            await ROOM.asend(["meanwhile"])
            await connect(two, client)
            assert client.of("joined")[-1]["recovered"] is True
            await ROOM.asend(["after"])
            await client.until(lambda: client.offset == 3)
            assert [frame["data"] for frame in client.of("message")] == [["before"], ["meanwhile"], ["after"]]

    run(main)
    no_traceback(one, two)


@in_turn("backend", {"pubsub": PUBSUB, "core": CORE})
def test_a_raw_client_sees_the_same_bytes_as_without_a_history(
    backend: str, redis_server: RedisServer, settings: Any, server: Server
) -> None:
    """From the answer to its handshake to its close frame."""

    def seen(kinds: dict[str, Any]) -> tuple[list[bytes], bytes]:
        site = Site(settings, redis_server, GROUPS=kinds)
        settings.CHANNEL_LAYERS = {"default": site.config(backend)}
        running = site.start(server, backend)
        with Raw(running, "/ws/room.1") as client:
            head = [line for line in client.answer().split(b"\r\n") if not line.lower().startswith(b"date:")]
            client.send(1, b'["from a client"]')  # it has joined once it gets this back
            assert client.frame() == (1, b'["from a client"]')
            for message in ({"text": "\u00fc", "fastws": 1}, "text", b"\x00\xff", ["x" * 60_000]):
                ROOM.send(message)
            if kinds:
                ROOM.set("a", 1)
                ROOM.clear()
            ROOM.send("last")
            while not client.data.endswith(b"\x81\x04last"):
                client.data += client.socket.recv(65536)
            running.signal()
            data = client.rest()
        no_traceback(running)
        return head, data

    whole = seen({"room.*": {"history": True, "state": True, "presence": True}})
    head, data = seen({})
    assert whole == (head, data)
    assert data.startswith(
        b'\x81\x18{"text":"\xc3\xbc","fastws":1}\x81\x04text\x82\x02\x00\xff\x81\x7e\xea\x64["xx'
    )
    assert data.endswith(b'xx"]\x81\x04last\x88\x02\x03\xf4')


@in_turn("backend", {"pubsub": "DeadlyPubSub", "core": "DeadlyCore"})
def test_a_sender_that_dies_before_the_layer_has_the_message(
    backend: str, redis_server: RedisServer, settings: Any, server: Server
) -> None:
    """The message arrives with the next check of each process: at most one more is made before it."""
    site = Site(settings, redis_server)
    layer = CORE if backend == "DeadlyCore" else PUBSUB
    servers = [site.start(server, layer) for _ in range(2)]
    settings.CHANNEL_LAYERS = {"default": site.config(layer)}
    deadly = {"CHANNEL_LAYERS": {"default": site.config(f"tests.servers.recovery.{backend}")}}

    async def main() -> None:
        async with connections() as connect:
            clients = [await connect(running) for running in servers]
            with Monitor(redis_server) as calls:
                sender = await asyncio.create_subprocess_exec(
                    *(sys.executable, "manage.py", "shell", "-c", SEND),
                    env={
                        **os.environ,
                        "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings",
                        "SETTINGS": json.dumps({**deadly, "FASTWS": site.fastws}),
                    },
                )
                while not calls["append"]:
                    await asyncio.sleep(0.01)
                before = calls["read"]
                for client in clients:
                    await client.until(lambda client=client: client.offset == 1)
                # Each process makes a check and reads the message. One more check may have begun before.
                assert calls["read"] - before <= 3 * len(servers)
            assert await sender.wait() == -signal.SIGKILL
            for client in clients:
                assert [frame["data"] for frame in client.of("message")] == [["kept"]]
                assert client.of("lost") == []

    run(main)
    no_traceback(*servers)


SEND = """
from fastws_compat.groups import Group
Group("room.1").send(["kept"])
"""


@on_servers("uvicorn")
def test_redis_comes_back_empty(redis_server: RedisServer, settings: Any, server: Server) -> None:
    running = Site(settings, redis_server).start(server)

    async def main() -> None:
        async with connections() as connect:
            client = await connect(running)
            for number in range(5):
                await ROOM.asend([number])
            await client.until(lambda: client.offset == 5)
            old = client.position
            redis_server.kill()
            redis_server.start()
            await send_until("again", lambda: client.of("lost"))
            await client.until(lambda: client.frames[-1].get("text") == "again")
            lost = client.of("lost")
            assert lost[0]["epoch"] != old.partition(":")[0]
            after = client.frames[client.frames.index(lost[-1]) :]
            offsets = [frame["offset"] for frame in after if frame["fastws"] == "message"]
            assert offsets == list(range(lost[-1]["offset"] + 1, lost[-1]["offset"] + 1 + len(offsets)))
            stranger = Client()
            stranger.position = old
            await connect(running, stranger)
            assert stranger.of("joined")[0]["recovered"] is False

    run(main)
    no_own_traceback(running)


async def assert_all_is_new(
    connect: Callable[..., Any], running: Running, client: Client, *positions: str
) -> None:
    """A client that got the messages 0 to 4 learns of the loss, and no earlier position is valid."""
    await send_until("again", lambda: client.of("lost"))
    await send_until("last", lambda: client.frames[-1].get("text") == "last")
    lost = client.frames.index(client.of("lost")[-1])
    offsets = [frame["offset"] for frame in client.frames[lost:] if frame["fastws"] in ("lost", "message")]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    numbers = [frame["data"] for frame in client.of("message") if "data" in frame]
    assert numbers == [[number] for number in range(5)]
    for position in positions:
        assert await recovers(connect, running, position) is False
    assert await recovers(connect, running, client.position) is True


@pytest.mark.parametrize("fault", ["restored from a file", "flushed", "evicted"])
def test_redis_has_lost_messages(
    fault: str, redis_server: RedisServer, settings: Any, server: Server
) -> None:
    """Every client learns of it. No earlier position is valid, not even one that Redis still knows."""
    running = Site(settings, redis_server).start(server)

    async def main() -> None:
        async with connections() as connect:
            client = await connect(running)
            for number in range(3):
                await ROOM.asend([number])
            await client.until(lambda: client.offset == 3)
            known = client.position
            with Redis.from_url(redis_server.url) as admin:
                admin.save()
                for number in range(3, 5):
                    await ROOM.asend([number])
                await client.until(lambda: client.offset == 5)
                unknown = client.position
                if fault == "flushed":
                    admin.flushall()
                elif fault == "evicted":  # the position, while the entries are still there
                    assert admin.delete(store_of("default").servers.key("room.1", "m")) == 1
            if fault == "restored from a file":
                redis_server.kill()
                redis_server.start()
            await assert_all_is_new(connect, running, client, known, unknown)
            assert client.position.partition(":")[0] != unknown.partition(":")[0]

    run(main)
    no_own_traceback(running)


class Address:
    """An address that leads to one Redis server, and after a failover to another."""

    def __init__(self, target: RedisServer) -> None:
        self.port = free_port()
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def hosts(self) -> list[dict[str, object]]:
        return [{"address": f"redis://127.0.0.1:{self.port}/0", "socket_timeout": None}]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._lead, "127.0.0.1", self.port):
            try:
                yield
            finally:
                self.turn_to(self._target)

    def turn_to(self, target: RedisServer) -> None:
        self._target = target
        for writer in self._writers:
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there = await asyncio.open_connection("127.0.0.1", self._target.port)
            self._writers |= {writer, there[1]}
            await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


def test_a_replica_that_lags_is_promoted(
    redis_server: RedisServer, store_server: RedisServer, settings: Any, server: Server
) -> None:
    """What the replica lacks is lost, and announced. No position that the first server gave is valid."""
    address = Address(redis_server)
    kind = {"history": {"count": 10_000}, "presence": {"linger": 0}}
    site = Site(settings, address, GROUPS={"room.*": kind}, PRESENCE_TTL=2)
    running = site.start(server)

    async def present() -> list[str]:
        with suppress(GroupStoreError):
            return sorted(person.key for person in await ROOM.apresence())
        return []

    async def main() -> None:
        async with address.served(), connections() as connect:
            client = await connect(running)
            ann = await connect(running, path="/present/room.1/ann")
            for number in range(3):
                await ROOM.asend([number])
            await client.until(lambda: client.offset == 3)
            known = client.position
            store_server.follow(redis_server)
            store_server.promote()
            ann.listening.cancel()
            await connect(running, path="/present/room.1/bob")
            for number in range(3, 5):
                await ROOM.asend([number])
            await client.until(lambda: client.offset == 5)
            unknown = client.position
            async with asyncio.timeout(20):
                while await present() != ["bob"]:
                    await asyncio.sleep(0.05)
            redis_server.kill()
            address.turn_to(store_server)
            await assert_all_is_new(connect, running, client, known, unknown)
            async with asyncio.timeout(20):
                while await present() != ["bob"]:
                    await asyncio.sleep(0.05)

    run(main)
    no_own_traceback(running)


@on_servers("daphne")
def test_redis_hangs(redis_server: RedisServer, settings: Any, server: Server) -> None:
    running = Site(settings, redis_server).start(server)

    async def main() -> None:
        async with connections() as connect:
            client = await connect(running)
            await ROOM.asend(["before"])
            await client.until(lambda: client.offset == 1)
            redis_server.freeze()
            with pytest.raises(GroupSendError):
                await ROOM.asend(["during"])
            redis_server.thaw()
            await send_until("after", lambda: client.frames[-1].get("text") == "after")
            assert client.offsets == list(range(1, len(client.offsets) + 1))
            assert client.of("lost") == []

    run(main)
    no_traceback(running)


@pytest.fixture
def store_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@on_servers("uvicorn")
def test_the_store_is_away_and_the_layer_is_not(
    redis_server: RedisServer, store_server: RedisServer, settings: Any, server: Server
) -> None:
    site = Site(settings, redis_server, STORE={"default": store_server.hosts}, STORE_DURABLE=True)
    running = site.start(server)

    async def main() -> None:
        async with connections() as connect:
            client = await connect(running)
            await ROOM.asend("kept")
            await client.until(lambda: client.offset == 1)
            before = client.position
            with Redis.from_url(store_server.url) as admin:
                admin.save()
            store_server.kill()
            unkept = {"fastws": "message", "group": "room.1", "text": "not kept"}
            await send_until("not kept", lambda: unkept in client.frames)
            late = await connect(running)
            assert late.of("joined") == [
                {"fastws": "joined", "group": "room.1", "epoch": None, "offset": 0, "recovered": False}
            ]
            store_server.start()
            await late.until(lambda: late.of("lost"))
            await ROOM.asend("kept again")
            await client.until(lambda: client.frames[-1].get("text") == "kept again")
            after = client.position
            assert after.partition(":")[0] == before.partition(":")[0]  # nothing but the hole is in the way
            assert await recovers(connect, running, before) is False
            await ROOM.asend("last")
            again = Client()
            again.position = after
            await connect(running, again)
            assert again.of("joined")[0]["recovered"] is True
            await again.until(lambda: again.frames[-1].get("text") == "last")

    run(main)
    no_traceback(running)


def test_a_server_that_is_killed_under_load(redis_server: RedisServer, settings: Any, server: Server) -> None:
    site = Site(settings, redis_server, LAYER_TIMEOUT=30)
    one, two = site.start(server), site.start(server)
    sent: list[int] = []

    async def load() -> None:
        while True:
            await ROOM.asend([len(sent)])
            sent.append(len(sent))
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with connections() as connect:
            mover, stayer = await connect(one), await connect(two)
            sending = asyncio.create_task(load())
            await mover.until(lambda: mover.offset >= 50)
            one.signal(signal.SIGKILL)
            await mover.until(lambda: mover.close)
            at = len(sent)
            await stayer.until(lambda: stayer.offset >= at + 50)
            await connect(two, mover)
            await mover.until(lambda: mover.offset >= at + 100)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            expected = [entry.message for entry in await ROOM.ahistory()]
            for client in (mover, stayer):
                await client.until(lambda client=client: client.offset == len(expected))
                assert client.offsets == list(range(1, len(expected) + 1))
                assert [frame["data"] for frame in client.of("message")] == expected
                assert client.of("lost") == []
            assert [frame["recovered"] for frame in mover.of("joined")] == [None, True]

    run(main)
    no_traceback(two)


FREEZE = size("FASTWS_FREEZE", 2, 10)


class Regular(Client):
    """A client that comes back by itself, to any of the servers."""

    @property
    def interruptions(self) -> int:
        """How often the client was told that it may have missed something."""
        return len(self.of("lost")) + sum(frame["recovered"] is False for frame in self.of("joined"))

    async def stay(self, servers: list[Running]) -> None:
        while True:
            with suppress(OSError, websockets.InvalidHandshake, websockets.InvalidMessage):
                await self.listen(random.choice(servers).url("/ws/room.1"))
            await asyncio.sleep(random.uniform(0, 1))

    def check(self, kept: dict[int, Any]) -> None:
        """In each epoch, offsets have no gap; nothing came twice; the last epoch is as the store has it."""
        at, last = ("", 0), dict[int, Any]()
        for frame in self.frames:
            if frame["fastws"] in ("lost", "joined") and frame["epoch"] is not None:
                assert not frame.get("recovered") or at == (frame["epoch"], frame["offset"])
                at = (frame["epoch"], frame["offset"])
                last = {}
            elif "offset" in frame and frame["fastws"] == "message":
                assert frame["offset"] == at[1] + 1
                at = (at[0], frame["offset"])
                last[at[1]] = frame.get("data", frame.get("text"))
        assert [kept.get(offset) for offset in last] == [*last.values()]
        seen = Counter(json.dumps(frame["data"]) for frame in self.of("message") if "data" in frame)
        assert set(seen.values()) == {1}


@pytest.mark.sized
@on_servers("daphne")
def test_everything_fails_under_load(redis_server: RedisServer, settings: Any, server: Server) -> None:
    """A process is killed and Redis hangs without notice. Redis is restored, and later is empty."""
    site = Site(settings, redis_server, LAYER_TIMEOUT=1)
    servers = [site.start(server) for _ in range(PROCESSES)]
    clients = [Regular() for _ in range(SOCKETS)]
    is_over = threading.Event()
    numbers = [0, 0, 0]

    def next_of(sender: int) -> list[int]:
        numbers[sender] += 1
        return [sender, numbers[sender]]

    async def load(sender: int) -> None:
        while not is_over.is_set():
            with suppress(GroupSendError):
                await ROOM.asend(next_of(sender))
            await asyncio.sleep(0.01)

    def load_from_sync_code() -> None:
        while not is_over.wait(0.02):
            with suppress(GroupSendError):
                ROOM.send(next_of(2))

    async def all_arrive(interruptions: int) -> None:
        """Everybody is there, has been told this often, and gets what is sent from now on."""
        for client in clients:
            await client.until(lambda client=client: client.interruptions >= interruptions)
        text = f"after {time.monotonic()}"
        await send_until(text, lambda: any(frame.get("text") == text for frame in clients[0].frames[-200:]))
        position = ""
        while not position:  # a store that has come back just now may not answer at once
            position = await ROOM.aposition()
        epoch, _, offset = position.partition(":")
        for client in clients:
            await client.until(
                lambda client=client: client.position.startswith(epoch) and client.offset >= int(offset)
            )

    async def main() -> None:
        staying = [asyncio.create_task(client.stay(servers)) for client in clients]
        for client in clients:
            await client.until_joined()
        loads = [asyncio.create_task(load(sender)) for sender in range(2)]
        loads.append(asyncio.create_task(asyncio.to_thread(load_from_sync_code)))

        new = await asyncio.to_thread(site.start, server)
        servers[0], old = new, servers[0]
        old.signal(signal.SIGKILL)
        await all_arrive(0)
        redis_server.freeze()
        await asyncio.sleep(FREEZE)
        redis_server.thaw()
        await all_arrive(0)
        assert [client.interruptions for client in clients] == [0] * SOCKETS

        with Redis.from_url(redis_server.url) as admin:
            admin.save()
        sent = numbers[0]
        await clients[0].until(lambda: numbers[0] > sent + 10 and clients[0].frames)
        redis_server.kill()
        redis_server.start()
        await all_arrive(1)
        before = max(client.interruptions for client in clients)
        redis_server.kill()
        redis_server.start("--dbfilename", "empty.rdb")
        await all_arrive(before + 1)

        is_over.set()
        await asyncio.gather(*loads)
        await all_arrive(before + 1)
        kept = {entry.offset: entry.message for entry in await ROOM.ahistory()}
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)
        for client in clients:
            client.check(kept)

    async def main_until_its_end() -> None:
        try:
            await main()
        finally:
            is_over.set()

    run(main_until_its_end, 500)
    for each in servers:
        no_own_traceback(each)


def test_a_reader_that_is_too_slow_gets_the_rest_later(
    redis_server: RedisServer, settings: Any, server: Server
) -> None:
    """It is closed with 1013, whatever SLOW_CONSUMER says, and what it missed does not stay in memory."""
    fastws = {"LAYER_TIMEOUT": 30, "RING_BYTES": 2**20, "SLOW_CONSUMER": "drop_oldest"}
    running = Site(settings, redis_server, **fastws).start(server)
    text = "x" * 4096

    async def main() -> None:
        async with connections() as connect:
            fast, slow, reads = await connect(running), Client(), asyncio.Event()
            slow_task = asyncio.create_task(slow.listen(running.url("/ws/room.1"), reads))
            await slow.until(lambda: slow.of("joined"))
            await ROOM.asend("first")
            await slow.until(lambda: slow.offset == 1)
            before = memory(running)
            for offset in range(2, ENTRIES + 2):
                await ROOM.asend(text)
                if offset % 500 == 1:  # what waits for the fast reader is not what this measures
                    await fast.until(lambda offset=offset: fast.offset == offset)
                    if "reads too slowly" in running.logs():
                        reads.set()  # a server gives a client some seconds to answer its close frame
            await fast.until(lambda: fast.offset == ENTRIES + 1)
            assert memory(running) - before < ENTRIES * len(text)
            assert reads.is_set()
            await slow.until(lambda: slow.close)
            assert slow.close[0] == 1013
            assert slow.offset < ENTRIES + 1
            await slow_task
            await connect(running, slow)
            assert slow.of("joined")[-1]["recovered"] is True
            await slow.until(lambda: slow.offset == ENTRIES + 1)
            assert slow.offsets == fast.offsets == list(range(1, ENTRIES + 2))
            assert slow.of("lost") == fast.of("lost") == []

    run(main)
    no_traceback(running)


def test_a_long_recovery_before_accept(redis_server: RedisServer, settings: Any, server: Server) -> None:
    """More has been missed than the queue of a slow client takes, and the socket is accepted later."""
    running = Site(settings, redis_server).start(server)
    missed = 1_500

    async def main() -> None:
        client = Client()
        client.position = await ROOM.aposition()
        for number in range(missed):
            await ROOM.asend([number])
        listening = asyncio.create_task(client.listen(running.url("/early/room.1")))
        await client.until(lambda: client.offset == missed)
        await ROOM.asend(["live"])
        await client.until(lambda: client.offset == missed + 1)
        assert client.offsets == list(range(1, missed + 2))
        assert [frame["recovered"] for frame in client.of("joined")] == [True]
        assert client.of("lost") == []
        assert client.close is None
        listening.cancel()
        await asyncio.wait([listening])

    run(main)
    no_traceback(running)


def test_redis_is_full(redis_server: RedisServer, settings: Any, server: Server) -> None:
    """Messages are delivered but not kept. No client recovers across them; those that leave later do."""
    site = Site(settings, redis_server)
    running, other = site.start(server), site.start(server)
    unkept = {"fastws": "message", "group": "room.1", "text": "not kept"}

    async def main() -> None:
        with Redis.from_url(redis_server.url) as admin:
            async with connections() as connect:
                client = await connect(running)
                await ROOM.asend("kept")
                await client.until(lambda: client.offset == 1)
                before = client.position
                admin.config_set("maxmemory", 1)
                await ROOM.asend("not kept")
                await client.until(lambda: client.frames[-1] == unkept)
                assert await recovers(connect, running, before) is False
                # This process has not seen the message.
                assert await recovers(connect, other, before) is False
                admin.config_set("maxmemory", 0)
                await send_until("kept again", lambda: client.offset > 1)
                after = client.position
                assert await recovers(connect, running, after) is True
                assert await recovers(connect, running, before) is False
                await ROOM.asend("last")
                assert await recovers(connect, running, after) is True
                assert client.offsets == list(range(1, client.offset + 1))
                assert client.of("lost") == []

    run(main)
    no_traceback(running, other)


# A deploy

RETURNING = size("FASTWS_RETURNING", 40, 2000)
SPREAD = size("FASTWS_SPREAD", 1, 5)


class Visitor(Client):
    """A client that comes back by itself, as `live.js` does, and says which list of people it knows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.version = ""
        self.count = 0
        self.waits: list[float] = []
        self._gone_at = 0.0

    @property
    def claim(self) -> str:
        return f"room.1:{self.position}:{self.version}" if self.position else ""

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["fastws"] == "presence":
            self.version, self.count = frame["version"], frame["count"]
        elif frame["fastws"] == "joined" and self._gone_at:
            self.waits.append(time.monotonic() - self._gone_at)
            self._gone_at = 0.0
        super()._take(frame)

    async def stay(self, servers: list[Running]) -> None:
        """Connect to one of the servers, and to another one when it has stopped."""
        while True:
            with suppress(OSError, websockets.InvalidHandshake, websockets.InvalidMessage):
                await self.listen(random.choice(servers).url(f"/present/room.1/{self.name}"))
            if self.close is not None:
                self.close, self._gone_at = None, time.monotonic()
            await asyncio.sleep(random.uniform(0, SPREAD))


@pytest.mark.sized
@on_servers("daphne")
def test_a_deploy_with_everybody_returning(redis_server: RedisServer, settings: Any, server: Server) -> None:
    """No message is lost or delivered twice, nobody appears to leave, and everybody is back soon."""
    # Even on a busy machine, everybody is back before they count as gone.
    kind = {"history": {"count": 10_000}, "presence": {"linger": 60}}
    site = Site(settings, redis_server, GROUPS={"room.*": kind}, LAYER_TIMEOUT=30, RECONNECT_SPREAD=SPREAD)
    servers = [site.start(server) for _ in range(PROCESSES)]
    visitors = [Visitor(f"u{number}") for number in range(RETURNING)]

    async def load() -> None:
        number = 0
        while True:
            await ROOM.asend([number])
            number += 1
            await asyncio.sleep(0.2)

    async def main() -> None:
        staying = [asyncio.create_task(visitor.stay(servers)) for visitor in visitors]
        for visitor in visitors:
            await visitor.until(lambda visitor=visitor: visitor.count == RETURNING, 120)
        for visitor in visitors:
            visitor.frames.clear()
        sending = asyncio.create_task(load())
        with Monitor(redis_server) as calls:
            for index in range(PROCESSES):
                old, new = servers[index], await asyncio.to_thread(site.start, server)
                servers[index] = new
                await asyncio.to_thread(old.stop, 30)
                assert "Traceback" not in old.logs()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await ROOM.asend(["last"])
            expected = [entry.message for entry in await ROOM.ahistory()]
            for visitor in visitors:
                await visitor.until(lambda visitor=visitor: visitor.offset == len(expected), 120)
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)
        waits = sorted(wait for visitor in visitors for wait in visitor.waits)
        figures = {"back": len(waits), "median": waits[len(waits) // 2], "longest": waits[-1], **calls}
        print(f"{RETURNING} sockets, {PROCESSES} processes: {figures}")
        # Besides heads, which a join and a check read.
        heads = calls["read"] + calls["presence_head"]
        assert calls.total() - heads <= 100 + RETURNING / 10
        for visitor in visitors:
            assert [frame["data"] for frame in visitor.of("message")] == expected
            assert visitor.offsets == list(range(1, len(expected) + 1))
            assert visitor.of("lost") == []
            assert {frame["recovered"] for frame in visitor.of("joined")} <= {True}
            # Nobody has left or joined. A client that returns with another version may get the whole list.
            assert {frame["count"] for frame in visitor.of("presence")} <= {RETURNING}
            assert [
                frame for frame in visitor.of("presence") if frame.get("left") or frame.get("joined")
            ] == []
        assert len(waits) >= RETURNING

    run(main, 500)
    no_traceback(*servers)
