"""Typed groups over Redis: daphne and uvicorn, each with typed, untyped and subscribing sockets."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.conftest import Server
from tests.servers.test_groups import client_of, run, start

pytestmark = [pytest.mark.servers, pytest.mark.redis]

APP = "tests.servers.typed_groups:app"


def said(text: str) -> dict[str, Any]:
    return {"type": "said", "text": text}


async def heard(client: ClientConnection) -> Any:
    return json.loads(await client.recv())


@pytest.mark.parametrize("kind", ["pubsub", "core"])
def test_two_processes(redis_server: RedisServer, daphne: Server, uvicorn: Server, kind: str) -> None:
    servers = [start(server, redis_server, kind, APP) for server in (daphne, uvicorn)]

    async def main() -> None:
        async with AsyncExitStack() as stack:
            typed, raw, streams = [
                [await client_of(stack, running, path) for running in servers]
                for path in ("/typed", "/raw", "/stream")
            ]
            for client in (*typed, *raw, *streams):
                assert await heard(client) == said("joined")
            for number, sender in enumerate(typed):
                await sender.send(json.dumps(said(f"typed {number}")))
                for client in (*typed, *raw, *streams):
                    assert await heard(client) == said(f"typed {number}")
            for number, sender in enumerate(raw):
                foreign = {"text": 1, "of": "an older version"}
                await sender.send(json.dumps(foreign))
                await sender.send(json.dumps(said(f"raw {number}")))
                for client in (*typed, *raw):
                    assert await heard(client) == foreign
                for client in (*typed, *raw, *streams):
                    assert await heard(client) == said(f"raw {number}")

    run(main)
    for running in servers:
        running.stop()
        assert "Traceback" not in running.logs()
        skipped = [line for line in running.logs().splitlines() if "does not fit" in line]
        assert len(skipped) == 2, running.logs()
