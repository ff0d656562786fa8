"""An unknown daphne: the lifespan runs lazily and once, including shutdown; close codes become private."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from tests.servers.conftest import Server

pytestmark = pytest.mark.servers

APP = "tests.servers.portable:app"


def test_lifespan_runs_with_the_first_socket_and_ends_with_the_server(daphne: Server) -> None:
    running = daphne.start(APP)
    assert "LIFESPAN up" not in running.logs()

    async def visit() -> int | None:
        async with websockets.connect(running.url("/state")) as client, asyncio.timeout(10):
            assert await client.recv() == "open"
            await client.send("close, please")
            await client.wait_closed()
            return client.close_code

    async def visits() -> list[int | None]:
        return await asyncio.gather(visit(), visit(), visit())

    assert asyncio.run(visits()) == [4008, 4008, 4008]
    running.stop()
    assert [line for line in running.logs().splitlines() if line.startswith("LIFESPAN")] == [
        "LIFESPAN up",
        "LIFESPAN down",
    ]
    assert running.logs().count("not completed") == 1
