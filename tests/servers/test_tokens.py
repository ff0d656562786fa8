"""A token in the subprotocols, the only place where a browser can put one."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from tests.servers.conftest import Server
from tests.servers.test_specification import refusal

pytestmark = pytest.mark.servers

APP = "tests.servers.sockets:app"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0-_"


def test_token_arrives_and_only_the_marker_is_selected(server: Server) -> None:
    running = server.start(APP)

    async def run() -> tuple[str | None, str]:
        url = running.url("/token")
        async with websockets.connect(url, subprotocols=["bearer", TOKEN]) as client, asyncio.timeout(10):
            return client.subprotocol, str(await client.recv())

    assert asyncio.run(run()) == ("bearer", TOKEN)
    assert TOKEN not in running.logs()


@pytest.mark.parametrize("offer", ["bearer", "chat, bearer"])
def test_marker_without_a_token_is_refused(server: Server, offer: str) -> None:
    headers = {"Sec-WebSocket-Protocol": offer}
    assert refusal(server.shared(APP).url("/token"), headers)[0] == 401


def test_ordinary_header_is_read_too(server: Server) -> None:
    async def run() -> str:
        url, headers = server.shared(APP).url("/token"), {"Authorization": f"Bearer {TOKEN}"}
        async with websockets.connect(url, additional_headers=headers) as client, asyncio.timeout(10):
            assert client.subprotocol is None
            return str(await client.recv())

    assert asyncio.run(run()) == TOKEN
