"""Groups on real servers: several processes with one Redis, slow clients, and a Redis that fails."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.client import Raw
from tests.servers.conftest import Running, Server
from tests.sizes import size

pytestmark = pytest.mark.servers

APP = "tests.servers.groups:app"
MIXED = "tests.servers.groups:mixed"
SETTINGS = "tests.servers.django_settings"
TIMEOUT = 20
SOCKETS = size("FASTWS_SOCKETS", 100, 2000)
# How long a frozen Redis stays frozen, and the time until membership is restored.
FROZEN = size("FASTWS_FROZEN", 5, 10)
SOON = 5
LAYER_TIMEOUT = 2
BACKENDS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}


def start(server: Server, redis: RedisServer | None = None, kind: str = "pubsub", app: str = APP) -> Running:
    settings: dict[str, Any] = {"CHANNEL_LAYERS": {}}
    if redis is not None:
        config: dict[str, Any] = {"hosts": redis.hosts}
        if kind == "core":
            config["capacity"] = 10_000
        settings["CHANNEL_LAYERS"] = {"default": {"BACKEND": BACKENDS[kind], "CONFIG": config}}
        settings["FASTWS"] = {"LAYER_TIMEOUT": LAYER_TIMEOUT}
    return server.start(app, settings=SETTINGS, env={"SETTINGS": json.dumps(settings)})


async def client_of(stack: AsyncExitStack, running: Running, path: str) -> ClientConnection:
    connecting = websockets.connect(running.url(path), compression=None, proxy=None, max_queue=None)
    return await stack.enter_async_context(connecting)


async def member(stack: AsyncExitStack, running: Running, group: str = "g") -> ClientConnection:
    """A client that has joined the group."""
    client = await client_of(stack, running, f"/member/{group}")
    assert await client.recv() == "joined"
    return client


def run(main: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(3 * TIMEOUT):
            await main()

    asyncio.run(limited())


async def call(running: Running, path: str) -> None:
    """Connect, and wait until the endpoint is ready."""
    async with websockets.connect(running.url(path), compression=None, proxy=None) as client:
        async for _ in client:
            pass


def test_a_group_in_one_process(server: Server) -> None:
    running = start(server)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            one, two = await member(stack, running), await member(stack, running)
            await one.send("hi")
            assert [await one.recv(), await two.recv()] == ["hi", "hi"]
            await call(running, "/burst/g?count=500")
            for client in (one, two):
                assert [await client.recv() for _ in range(500)] == [str(number) for number in range(500)]
            await call(running, "/close/g")
            for client in (one, two):
                with pytest.raises(websockets.ConnectionClosed) as end:
                    await client.recv()
                assert end.value.rcvd is not None
                assert (end.value.rcvd.code, end.value.rcvd.reason) == (4401, "logged out")

    run(main)
    running.stop()
    assert "Traceback" not in running.logs()
    assert "Task was destroyed" not in running.logs()


@pytest.mark.redis
def test_two_processes_on_redis(redis_server: RedisServer, daphne: Server, uvicorn: Server) -> None:
    servers = [start(daphne, redis_server), start(uvicorn, redis_server)]

    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [await member(stack, running) for running in servers * 10]
            await call(servers[1], "/burst/g?count=100")
            for client in clients:
                assert [await client.recv() for _ in range(100)] == [str(number) for number in range(100)]
            await call(servers[0], "/close/g")
            for client in clients:
                with pytest.raises(websockets.ConnectionClosed) as end:
                    await client.recv()
                assert end.value.rcvd is not None
                assert end.value.rcvd.code == 4401

    run(main)
    for running in servers:
        running.stop()
        assert "Traceback" not in running.logs()


@pytest.mark.redis
@pytest.mark.sized
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_member_gets_every_message_in_order(
    processes: int, redis_server: RedisServer, daphne: Server
) -> None:
    servers = [start(daphne, redis_server) for _ in range(processes)]
    texts = [str(number) for number in range(50)]

    async def everything(client: ClientConnection) -> None:
        assert [await client.recv() for _ in texts] == texts

    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [await member(stack, servers[number % processes]) for number in range(SOCKETS)]
            await call(servers[0], f"/burst/g?count={len(texts)}")
            await asyncio.gather(*map(everything, clients))

    run(main)
    for running in servers:
        running.stop()
        assert "did not reach this process" not in running.logs()
        assert "Traceback" not in running.logs()


class Witness:
    """A client in a group of one process that records everything it receives."""

    def __init__(self, client: ClientConnection, name: str) -> None:
        self.client = client
        self.name = name
        self.said: list[str] = []
        self.heard: list[str] = []
        self.failed = 0
        self._news = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for text in self.client:
            if text == "failed":
                self.failed += 1
            else:
                self.heard.append(str(text))
            self._news.set()

    async def say(self, text: str) -> None:
        """Send a unique text to the group."""
        self.said.append(f"{text} {self.name} {len(self.said)}")
        await self.client.send(self.said[-1])

    async def until(self, condition: Any) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def fails(self) -> None:
        """Assert that the layer does not accept a message of this client, within its time limit."""
        failed = self.failed
        async with asyncio.timeout(LAYER_TIMEOUT + 2):
            await self.say("lost")
            await self.until(lambda: self.failed > failed)


class Site:
    """Two processes with one kind of layer: a member in each, and a socket that joins no group."""

    def __init__(self, servers: list[Running], members: list[Witness], echo: ClientConnection) -> None:
        self.servers = servers
        self.members = members
        self.echo = echo

    async def notices_nothing(self) -> None:
        """Assert that the socket without groups is answered at once, and so is a new one."""
        async with asyncio.timeout(LAYER_TIMEOUT):
            await self.echo.send("there?")
            assert await self.echo.recv() == "there?"
            async with AsyncExitStack() as stack:
                await client_of(stack, self.servers[1], "/echo")

    async def outage(self) -> None:
        """Assert that no call takes longer than its time limit while the layer is down."""
        await asyncio.gather(*(one.fails() for one in self.members))
        await self.notices_nothing()
        async with asyncio.timeout(2 * LAYER_TIMEOUT + 2), AsyncExitStack() as stack:
            await member(stack, self.servers[0])
            await member(stack, self.servers[1], "another")
        await self.notices_nothing()

    async def back(self) -> None:
        """Assert that both members soon receive each other's messages again."""

        async def hears(one: Witness, other: Witness) -> None:
            before = len(other.said)
            while not set(other.said[before:]) & set(one.heard):
                await other.say("back?")
                await asyncio.sleep(0.1)

        async with asyncio.timeout(SOON):
            await asyncio.gather(hears(*self.members), hears(*reversed(self.members)))

    async def account(self) -> None:
        """Assert that each process has counted the messages that it missed or could not send."""
        for one in self.members:
            await one.say("the end")
        ends = {one.said[-1] for one in self.members}
        said = {text for one in self.members for text in one.said}
        for running, one in zip(self.servers, self.members, strict=True):
            await one.until(lambda one=one: ends <= set(one.heard))
            assert len(one.heard) == len(set(one.heard))
            counted: dict[str, int] = {}
            while counted.get("lost", 0) < len(said - set(one.heard)):
                await asyncio.sleep(0.1)
                counted = await counters_of(running)
            assert counted["lost"] == len(said - set(one.heard))
            assert counted["failed"] == one.failed


async def counters_of(running: Running) -> dict[str, int]:
    async with websockets.connect(running.url("/counters"), compression=None, proxy=None) as client:
        counted: dict[str, int] = json.loads(await client.recv())
        return counted


@asynccontextmanager
async def site(servers: list[Running]) -> Any:
    async with AsyncExitStack() as stack:
        members = [
            Witness(await member(stack, running), str(number)) for number, running in enumerate(servers)
        ]
        made = Site(servers, members, await client_of(stack, servers[0], "/echo"))
        await made.back()
        yield made


@pytest.mark.redis
@pytest.mark.sized
def test_redis_is_frozen_then_killed_and_started_again(redis_server: RedisServer, daphne: Server) -> None:
    servers = {kind: [start(daphne, redis_server, kind) for _ in range(2)] for kind in BACKENDS}

    async def main() -> None:
        async with AsyncExitStack() as stack:
            sites = [await stack.enter_async_context(site(pair)) for pair in servers.values()]
            redis_server.freeze()
            thaw = asyncio.get_running_loop().time() + FROZEN
            await asyncio.gather(*(one.outage() for one in sites))
            while asyncio.get_running_loop().time() < thaw:
                await asyncio.gather(*(one.notices_nothing() for one in sites))
                await asyncio.sleep(0.2)
            redis_server.thaw()
            await asyncio.gather(*(one.back() for one in sites))

            redis_server.kill()
            await asyncio.gather(*(one.outage() for one in sites))
            await asyncio.to_thread(redis_server.start)
            await asyncio.gather(*(one.back() for one in sites))
            await asyncio.gather(*(one.account() for one in sites))

    run(main)
    for running in (*servers["pubsub"], *servers["core"]):
        running.stop()
        # One line for the start of an outage and one for its end; two outages may have merged into one.
        assert 1 <= running.logs().count(" fails (") == running.logs().count(" has recovered after ") <= 2
        assert "did not reach this process" in running.logs()


@pytest.mark.redis
@pytest.mark.parametrize("kind", BACKENDS)
def test_consumers_of_plain_channels_in_the_same_group(
    kind: str, redis_server: RedisServer, daphne: Server
) -> None:
    servers = [start(daphne, redis_server, kind, MIXED) for _ in range(2)]

    async def hear(expected: str, *clients: ClientConnection) -> None:
        assert [await client.recv() for client in clients] == [expected] * len(clients)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            native = [await client_of(stack, running, "/native/chat.1") for running in servers]
            ours = [await member(stack, running, "chat.1") for running in servers]
            typed = await client_of(stack, servers[1], "/typed/chat.1")

            await native[0].send(raw("chat.1", {"type": "chat.message", "text": "theirs"}))
            await hear('{"native": "theirs"}', *native)
            await hear('{"translated":"theirs"}', *ours)
            await typed.send("ours, in their type")
            await hear('{"native": "ours, in their type"}', *native)
            await hear('{"text":"ours, in their type"}', *ours)
            await ours[0].send("ours")
            await hear("ours", *native, *ours)

            alone = [await member(stack, running, name) for running in servers for name in ("chat.2", "g")]
            for type in FOREIGN:
                for group in ("chat.2", "g"):
                    message = {"type": type, "code": 4000, "text": "?", "message": {"text": "?"}}
                    for _ in range(2):
                        await native[1].send(raw(group, message))
            await native[1].send(raw("chat.1", {"type": "chat.message", "text": "all sent"}))
            await hear('{"translated":"all sent"}', *ours)
            for client in alone[:2]:
                await client.send("still here")
            await hear("still here", *alone)

    run(main)
    for running in servers:
        running.stop()
        for type in FOREIGN:
            assert running.logs().count(f"message of type {type!r} to a group cannot be handled") == 1
        assert "Traceback" not in running.logs()


# Message types: unknown names, names of ASGI messages, and names of this library's methods.
FOREIGN = [
    "unknown",
    "websocket.close",
    "websocket.disconnect",
    "websocket.send",
    "close",
    "deliver",
    "leave",
    "send.text",
    "__init__",
]


def raw(group: str, message: dict[str, Any]) -> str:
    """The text that makes the plain consumer send any message to any group."""
    return json.dumps({"group": group, "message": message})


def test_a_client_that_does_not_read_is_closed_and_delays_no_other(daphne: Server) -> None:
    running = start(daphne)
    with Raw(running, "/member/g") as deaf:
        deaf.accepted()

        async def main() -> None:
            async with AsyncExitStack() as stack:
                fast = await member(stack, running)
                while "reads too slowly" not in running.logs():
                    await asyncio.gather(call(running, "/burst/g?count=500&size=20000"), hear(fast, 500))

        run(main)
    assert running.logs().count("reads too slowly") == 1


async def hear(client: ClientConnection, count: int) -> None:
    assert [int(await client.recv()) for _ in range(count)] == list(range(count))
