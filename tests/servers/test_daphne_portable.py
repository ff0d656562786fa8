"""An unknown daphne: the lifespan runs lazily and once, including shutdown; close codes become private."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from tests.servers.client import open_socket
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


def test_stock_daphne_closes_every_socket_with_a_code_that_it_can_send(daphne: Server) -> None:
    """It raised for the others, and the client stayed connected to an endpoint that had ended."""
    running = daphne.start("tests.servers.stock:app")
    codes = {}
    for path, message in {"/json": "{", "/raise/after": "", "/policy": ""}.items():
        with open_socket(running, path) as client:
            if message:
                client.send(message)
            with pytest.raises(websockets.ConnectionClosed):
                client.recv(timeout=10)
            codes[path] = client.close_code
    assert codes == {"/json": 4007, "/raise/after": 4011, "/policy": 4008}
