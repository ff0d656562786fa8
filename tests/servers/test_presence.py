"""Presence on real servers: several processes with one Redis, deploys, crashes, and a Redis that fails.

Times are short and numbers small by default; both are those of the specification in `.ci/slow`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import websockets
from redis import Redis
from websockets.asyncio.client import ClientConnection

from fastws_compat.groups.keeper import TICKS_PER_LEASE
from fastws_compat.groups.redis import RedisStore
from fastws_compat.groups.redis_seats import PAGE, RedisSeats
from fastws_compat.groups.seats import BATCH, Seat
from fastws_compat.groups.servers import Servers
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.conftest import Running, Server, on_servers
from tests.servers.monitor import Monitor
from tests.sizes import size

pytestmark = [pytest.mark.servers, pytest.mark.redis, pytest.mark.sized]

APP = "tests.servers.presence:app"
TTL = size("FASTWS_PRESENCE_TTL", 2, 20)
TICK = TTL / 4
LINGER = TTL / 2
PROCESSES = size("FASTWS_PROCESSES", 2, 4)
SOCKETS = size("FASTWS_SOCKETS", 60, 2000)
PEOPLE = size("FASTWS_PEOPLE", 1500, 10_000)
# How long a process is stopped, at least.
STOP = size("FASTWS_STOP", 0, 60)
LAYER_TIMEOUT = 2
BACKENDS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}
ON_BOTH = pytest.mark.parametrize("kind", ["pubsub", pytest.param("core", marks=pytest.mark.slow)])
# Seconds for a busy machine.
SLACK = 5.0


def start(server: Server, redis: RedisServer, kind: str = "pubsub") -> Running:
    config: dict[str, Any] = {"hosts": redis.hosts}
    if kind == "core":
        config["capacity"] = 10_000
    settings = {
        "CHANNEL_LAYERS": {"default": {"BACKEND": BACKENDS[kind], "CONFIG": config}},
        "FASTWS": {
            "GROUPS": {
                "room*": {"presence": {"linger": LINGER}},
                "hall": {"presence": {"linger": LINGER, "limit": 2 * SOCKETS}},
            },
            "PRESENCE_TTL": TTL,
            "CHECK_SECONDS": TICK,
            "LAYER_TIMEOUT": LAYER_TIMEOUT,
        },
    }
    env = {"SETTINGS": json.dumps(settings)}
    return server.start(APP, settings="tests.servers.django_settings", env=env)


class Client:
    """A client that understands presence, and keeps what it has seen."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.people: dict[str, Any] = {}
        self.count = -1
        self.joined: list[str] = []
        self.left: list[str] = []
        self.frames: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        with suppress(websockets.ConnectionClosed):
            async for text in self.connection:
                frame = json.loads(text)
                if frame.get("fastws") == "presence":
                    self._take(frame)
                    self._changed.set()

    def _take(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        self.count = frame["count"]
        if "all" in frame:
            self.joined += [key for key in frame["all"] if key not in self.people]
            self.left += [key for key in self.people if key not in frame["all"]]
            self.people = frame["all"]
        elif "joined" in frame:
            self.joined += frame["joined"]
            self.left += frame["left"]
            self.people |= {**frame["joined"], **frame["changed"]}
            for key in frame["left"]:
                del self.people[key]

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        try:
            async with asyncio.timeout(seconds + SLACK):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"still {self.count} present: {[*self.people][:20]}") from None

    async def until_people(self, *keys: str, seconds: float = 20) -> None:
        await self.until(lambda: self.people.keys() == {*keys}, seconds)


# The keys of a frame that has only the count.
COUNTED = {"fastws", "group", "version", "count"}


@asynccontextmanager
async def clients() -> AsyncIterator[Callable[..., Any]]:
    """Connects clients, which are closed at the end."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        tasks = []

        async def connect(running: Running, path: str, *, sees: bool = True) -> Client:
            url = running.url(path)
            if sees:
                url += f"{'&' if '?' in path else '?'}fastws="
            connection = await websockets.connect(
                url, compression=None, proxy=None, max_queue=None, ping_interval=None, open_timeout=60
            )
            stack.push_async_callback(connection.close)
            client = Client(connection)
            tasks.append(group.create_task(client.listen()))
            return client

        yield connect
        for task in tasks:
            task.cancel()


def run(main: Callable[[], Any], seconds: float = 60 + 6 * TTL) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await main()

    asyncio.run(limited())


async def ask(running: Running, path: str) -> Any:
    async with websockets.connect(running.url(path), compression=None, proxy=None) as client:
        return json.loads(await client.recv())


def no_traceback(*servers: Running) -> None:
    for running in servers:
        running.stop()
        assert "Traceback" not in running.logs()
        assert "Task was destroyed" not in running.logs()


def heard(*servers: Running) -> list[tuple[str, str, Any]]:
    """The signals of all processes: what happened to whom, and the info."""
    lines = [line for running in servers for line in running.logs().splitlines()]
    signals = [json.loads(line.removeprefix("signal ")) for line in lines if line.startswith("signal ")]
    assert {group for _, group, _, _ in signals} <= {"room", "hall"}
    return sorted((what, key, info) for what, _, key, info in signals)


async def until_heard(expected: list[tuple[str, str, Any]], *servers: Running) -> None:
    """Wait for the signals, which come after the frames. `only_heard` looks whether there are more."""
    try:
        async with asyncio.timeout(SLACK + TICK + len(expected) / 50):
            while missing := {*expected} - {*heard(*servers)}:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{len(missing)} signals are missing: {[*missing][:20]}") from None


def only_heard(expected: list[tuple[str, str, Any]], *servers: Running) -> None:
    """Each signal has come once, and no other one. The processes have been stopped."""
    assert heard(*servers) == sorted(expected)


def joined(*users: str) -> list[tuple[str, str, Any]]:
    return [("joined", user, user) for user in users]


def left(*users: str) -> list[tuple[str, str, Any]]:
    return [("left", user, user) for user in users]


@ON_BOTH
def test_processes_agree_and_each_signal_comes_once(
    kind: str, redis_server: RedisServer, daphne: Server, uvicorn: Server
) -> None:
    one, two = start(daphne, redis_server, kind), start(uvicorn, redis_server, kind)

    async def main() -> None:
        async with clients() as connect:
            watching = [await connect(running, "/watch/room") for running in (one, two)]
            tab = await connect(one, "/in/room?user=ann")
            other_tab = await connect(two, "/in/room?user=ann")
            bob = await connect(two, "/in/room?user=bob")
            for client in (*watching, tab, other_tab, bob):
                await client.until_people("ann", "bob")
            assert await ask(one, "/who/room") == {"ann": ["ann", 2], "bob": ["bob", 1]}
            await bob.connection.send("Robert")
            for client in watching:
                await client.until(lambda client=client: client.people["bob"] == "Robert")  # type: ignore[misc]
            await tab.connection.send("")
            await bob.connection.close()
            for client in watching:
                await client.until_people("ann", seconds=LINGER)
                assert client.left == ["bob"]
            await other_tab.connection.close()
            for client in watching:
                await client.until_people(seconds=LINGER)
                assert (sorted(client.joined), client.left) == (["ann", "bob"], ["bob", "ann"])
                versions = [frame["version"] for frame in client.frames]
                assert len(versions) == len({*versions})
        await until_heard(signals, one, two)

    signals = [*joined("ann", "bob"), *left("ann"), ("left", "bob", "Robert")]
    run(main)
    no_traceback(one, two)
    only_heard(signals, one, two)


@ON_BOTH
def test_a_reload_is_no_event(kind: str, redis_server: RedisServer, server: Server) -> None:
    running = start(server, redis_server, kind)

    async def main() -> None:
        async with clients() as connect:
            watching = await connect(running, "/watch/room")
            for _ in range(4):
                client = await connect(running, "/in/room?user=ann")
                await client.until_people("ann")
                await client.connection.close()
            await asyncio.sleep(LINGER / 2)
            assert (await ask(running, "/who/room")).keys() == {"ann"}
            assert (watching.joined, watching.left) == (["ann"], [])
            await watching.until_people(seconds=LINGER)
        await until_heard(left("ann"), running)

    run(main)
    no_traceback(running)
    only_heard([*joined("ann"), *left("ann")], running)


@ON_BOTH
def test_a_killed_process_leaves_no_ghosts(
    kind: str, redis_server: RedisServer, daphne: Server, uvicorn: Server
) -> None:
    lives, dies = start(daphne, redis_server, kind), start(uvicorn, redis_server, kind)

    async def main() -> None:
        async with clients() as connect:
            watching = await connect(lives, "/watch/room")
            here = await connect(lives, "/in/room?user=ann")
            for user in ("ann", "bob", "eve"):
                await connect(dies, f"/in/room?user={user}")
            await watching.until_people("ann", "bob", "eve")
            await until_heard(joined("ann", "bob", "eve"), lives, dies)
            begun = time.monotonic()
            with Monitor(redis_server) as calls:
                dies.signal(signal.SIGKILL)
                back = await connect(lives, "/in/room?user=eve")
                await watching.until_people("ann", "eve", seconds=TTL + TICK)
                ticks = calls["presence_tick"]
            # However busy the machine is: the first one after the end of the lease removes what has died.
            assert ticks <= TICKS_PER_LEASE + 1
            assert time.monotonic() - begun < TTL + TICK + SLACK
            assert (sorted(watching.joined), watching.left) == (["ann", "bob", "eve"], ["bob"])
            assert (await ask(lives, "/who/room")) == {"ann": ["ann", 1], "eve": ["eve", 1]}
            assert {*here.people} == {*back.people} == {"ann", "eve"}
        await until_heard(left("bob"), lives)

    run(main)
    no_traceback(lives)
    dies.stop()
    signals = heard(lives, dies)
    # When the test ends, the others leave, too, or the process ends before they do.
    assert [each for each in signals if each not in left("ann", "eve")] == [
        *joined("ann", "bob", "eve"),
        *left("bob"),
    ]


@ON_BOTH
@on_servers("uvicorn")
def test_a_stopped_process_is_removed_and_registers_again(
    kind: str, redis_server: RedisServer, server: Server
) -> None:
    lives, stops = start(server, redis_server, kind), start(server, redis_server, kind)

    async def main() -> None:
        async with clients() as connect:
            watching = await connect(lives, "/watch/room")
            await connect(lives, "/in/room?user=ann")
            stopped = await connect(stops, "/in/room?user=bob")
            await watching.until_people("ann", "bob")
            begun = time.monotonic()
            stops.signal(signal.SIGSTOP)
            try:
                await watching.until_people("ann", seconds=2 * TTL)
                await asyncio.sleep(begun + STOP - time.monotonic())
                assert (sorted(watching.joined), watching.left) == (["ann", "bob"], ["bob"])
            finally:
                stops.signal(signal.SIGCONT)
            await watching.until_people("ann", "bob", seconds=2 * TTL)
            await stopped.until_people("ann", "bob")
            assert (await ask(lives, "/who/room")) == {"ann": ["ann", 1], "bob": ["bob", 1]}
            # For longer than anybody would be waited for.
            await asyncio.sleep(TTL + 2 * TICK)
            assert (sorted(watching.joined), watching.left) == (["ann", "bob", "bob"], ["bob"])
            assert heard(lives, stops) == [*joined("ann", "bob", "bob"), *left("bob")]

    run(main, 90 + STOP + 8 * TTL)
    no_traceback(lives, stops)


@ON_BOTH
@pytest.mark.parametrize(
    "fault",
    ["freeze", "flush", *(pytest.param(name, marks=pytest.mark.slow) for name in ("restart", "restore"))],
)
def test_a_fault_of_redis_is_no_event(
    fault: str, kind: str, redis_server: RedisServer, daphne: Server, uvicorn: Server
) -> None:
    servers = start(daphne, redis_server, kind), start(uvicorn, redis_server, kind)

    async def main() -> None:
        async with clients() as connect:
            watching = [await connect(running, "/watch/room") for running in servers]
            users = [f"u{number}" for number in range(6)]
            for number, user in enumerate(users):
                await connect(servers[number % 2], f"/in/room?user={user}")
            for client in watching:
                await client.until_people(*users)
            await until_heard(joined(*users), *servers)
            for client in watching:
                client.joined.clear()
            await fail(fault, redis_server)
            newcomer = await connect(servers[0], "/in/room?user=new")
            for client in (*watching, newcomer):
                await client.until_people(*users, "new", seconds=3 * TTL)
            # For longer than anybody would be waited for.
            await asyncio.sleep(TTL + 2 * TICK)
            for client in watching:
                assert (client.joined, client.left) == (["new"], [])
                assert {*client.people} == {*users, "new"}
            assert (await ask(servers[1], "/who/room")) == {user: [user, 1] for user in (*users, "new")}
            assert heard(*servers) == sorted(joined(*users, "new"))

    run(main, 90 + 10 * TTL)
    if fault in ("freeze", "flush"):  # channels_redis logs the end of its connections
        no_traceback(*servers)


def test_a_redis_that_comes_back_from_a_file_brings_nobody_back(
    redis_server: RedisServer, daphne: Server, uvicorn: Server
) -> None:
    servers = start(daphne, redis_server), start(uvicorn, redis_server)

    async def main() -> None:
        async with clients() as connect:
            watching = [await connect(running, "/watch/room") for running in servers]
            leaving = [await connect(running, f"/in/room?user=gone{running.pid}") for running in servers]
            gone = [f"gone{running.pid}" for running in servers]
            await connect(servers[0], "/in/room?user=ann")
            for client in watching:
                await client.until_people("ann", *gone)
            with Redis.from_url(redis_server.url) as admin:
                admin.save()
            for client in leaving:
                await client.connection.send("")
            await connect(servers[1], "/in/room?user=bob")
            for client in watching:
                await client.until_people("ann", "bob")
                client.left.clear()
            redis_server.kill()
            redis_server.start()
            newcomer = await connect(servers[0], "/in/room?user=new")
            for client in (*watching, newcomer):
                await client.until_people("ann", "bob", "new", seconds=3 * TTL)
            # For longer than anybody would be waited for.
            await asyncio.sleep(TTL + 2 * TICK)
            for client in (*watching, newcomer):
                assert {*client.people} == {"ann", "bob", "new"}
                assert {*client.left} <= {*gone}
            people = {"ann": ["ann", 1], "bob": ["bob", 1], "new": ["new", 1]}
            assert await ask(servers[1], "/who/room") == people

    run(main)


async def fail(fault: str, redis: RedisServer) -> None:
    if fault == "freeze":
        redis.freeze()
        await asyncio.sleep(1.5 * TTL)
        redis.thaw()
    elif fault == "flush":
        with Redis.from_url(redis.url) as admin:
            admin.flushall()
    else:
        if fault == "restore":
            with Redis.from_url(redis.url) as admin:
                admin.save()
        redis.kill()
        await asyncio.sleep(TICK)
        redis.start()


@on_servers("daphne")
def test_a_rolling_deploy_is_no_event(redis_server: RedisServer, server: Server) -> None:
    """Each process is replaced, and its clients come back to the others at once."""
    servers = [start(server, redis_server) for _ in range(PROCESSES)]
    stopped: list[Running] = []
    users = [f"u{number}" for number in range(SOCKETS)]

    async def main() -> None:
        async with clients() as connect, asyncio.TaskGroup() as group:
            watching = await connect(servers[-1], "/watch/hall")

            async def stay(user: str, index: int) -> None:
                """Connect to the next process each time that one stops."""
                while True:
                    with suppress(OSError, websockets.InvalidHandshake, websockets.InvalidMessage):
                        path = f"/in/hall?user={user}"
                        client = await connect(servers[index % len(servers)], path, sees=False)
                        await client.connection.wait_closed()
                    index += 1
                    await asyncio.sleep(0.05)

            staying = [group.create_task(stay(user, at)) for at, user in enumerate(users)]
            try:
                await deploy(connect, watching)
            finally:
                for task in staying:
                    task.cancel()

    async def deploy(connect: Callable[..., Any], watching: Client) -> None:
        await watching.until_people(*users, seconds=60 + SOCKETS / 50)
        assert sorted(watching.joined) == sorted(users)
        await until_heard(joined(*users), *servers)
        viewers = [watching]
        for index in range(PROCESSES - 1):
            new = await asyncio.to_thread(start, server, redis_server)
            viewers.append(await connect(new, "/watch/hall"))
            await viewers[-1].until_people(*users)
            old, servers[index] = servers[index], new
            stopped.append(old)
            await asyncio.to_thread(old.stop, 30)
            assert "Traceback" not in old.logs()
        await asyncio.sleep(TTL + 2 * TICK)
        for viewer in viewers:
            assert viewer.left == []
            assert sorted(viewer.joined) == sorted(viewer.people) == sorted(users)
        assert await ask(servers[-1], "/who/hall") == {user: [user, 1] for user in users}
        assert Counter(heard(*stopped, *servers)) - Counter(joined(*users)) == Counter()

    run(main, seconds=120 + SOCKETS / 5 + 10 * TTL)
    no_traceback(*servers)


@ON_BOTH
@on_servers("daphne")
def test_of_many_people_only_the_count_is_sent(kind: str, redis_server: RedisServer, server: Server) -> None:
    """A process reads their list once, in pages, however many clients see it."""
    running = start(server, redis_server, kind)

    async def main() -> None:
        seats = RedisSeats(RedisStore(Servers(redis_server.hosts, "asgi")), 0)
        await seats.tick("others", 600)
        many = [Seat(f"s{number}", f"u{number}", '{"name":"somebody"}') for number in range(PEOPLE)]
        for at in range(0, PEOPLE, BATCH):
            await seats.enter("room", "others", many[at : at + BATCH])
        async with clients() as connect:
            with Monitor(redis_server) as calls:
                ann = await connect(running, "/in/room?user=ann")
                await ann.until(lambda: ann.count == PEOPLE + 1)
                for _ in range(5):
                    viewer = await connect(running, "/watch/room")
                    await viewer.until(lambda viewer=viewer: viewer.count == PEOPLE + 1)  # type: ignore[misc]
                    assert [frame.keys() for frame in viewer.frames] == [COUNTED]
            assert ann.frames[-1].keys() == COUNTED
            # A page of Redis 6 has half as many people, since it counts names and values. The reading may
            # begin anew when Ann herself joins.
            assert calls["presence_read"] < 2 * (2 * PEOPLE / PAGE)
            await seats.leave("room", "others", [f"s{number}" for number in range(PEOPLE - 900)])
            await ann.until(lambda: ann.count == 901)
            assert len(ann.people) == 901

    run(main)
    no_traceback(running)
