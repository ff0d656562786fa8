"""Groups over real servers: several processes on one Redis, slow clients, a restart of Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.client import Raw
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.groups:app"
SETTINGS = "wsproject.settings"
PATIENCE = 20


def start(server: Server, redis: RedisServer | None = None) -> Running:
    env = {} if redis is None else {"REDIS_URL": redis.url}
    return server.start(APP, settings=SETTINGS, env=env)


async def member(stack: AsyncExitStack, running: Running, group: str = "g") -> ClientConnection:
    """A client that has joined the group."""
    connecting = websockets.connect(running.url(f"/member/{group}"), compression=None, proxy=None)
    client = await stack.enter_async_context(connecting)
    assert await client.recv() == "joined"
    return client


def run(main: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(3 * PATIENCE):
            await main()

    asyncio.run(limited())


async def call(running: Running, path: str) -> None:
    """Connect, and wait until the endpoint is through."""
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
def test_redis_is_started_again_under_open_sockets(redis_server: RedisServer, daphne: Server) -> None:
    servers = [start(daphne, redis_server), start(daphne, redis_server)]

    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [await member(stack, running) for running in servers]
            redis_server.kill()
            await asyncio.to_thread(redis_server.start)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*map(hears_again, [servers[1], servers[0]], clients))

    run(main)


async def hears_again(other: Running, client: ClientConnection) -> None:
    """Send from the other process until this client hears it."""
    hearing = asyncio.ensure_future(client.recv())
    while not hearing.done():
        with suppress(websockets.ConnectionClosedError):  # the layer is still away there
            await call(other, "/burst/g?count=1")
        await asyncio.wait([hearing], timeout=0.1)
    assert await hearing == "0"


def test_a_client_that_does_not_read_is_closed_and_delays_nobody(daphne: Server) -> None:
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
