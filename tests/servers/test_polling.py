"""An endpoint that polls with a time limit of zero loses no message, blocks no other socket, and ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import websockets
from websockets.sync.client import ClientConnection

from tests.servers.client import open_socket
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

KINDS = ["daphne", "uvicorn", "uvicorn --ws websockets", "uvicorn --ws wsproto"]
WAYS = ["wait_for", "timeout"]
TEXTS = [str(number) for number in range(200)]


def served(name: str, shared: Any, module: str) -> Running:
    kind, *options = name.split()
    return Server(kind, shared).shared(
        f"tests.servers.{module}:app",
        *options,
        settings="tests.servers.django_settings",
        env={"SETTINGS": '{"FASTWS": {"DISCONNECT_GRACE": 0.2}}'},
    )


@contextmanager
def polling(running: Running, path: str) -> Iterator[ClientConnection]:
    with open_socket(running, path) as client:
        yield client


def wait_closed(running: Running, path: str) -> None:
    with polling(running, path) as client, pytest.raises(websockets.ConnectionClosed):
        client.recv(timeout=20)


def assert_nothing_is_lost(running: Running, way: str) -> None:
    with polling(running, f"/poll/{way}") as client:
        for number, text in enumerate(TEXTS):
            client.send(text)
            if not number % 20:
                wait_closed(running, "/other")  # it is served while the endpoint polls
        wait_closed(running, "/now")
        client.send("end")
        assert json.loads(client.recv(timeout=20)) == [*TEXTS, "end"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_polling_loses_no_message(shared_servers: Any, kind: str, way: str) -> None:
    assert_nothing_is_lost(served(kind, shared_servers, "polling"), way)


@pytest.mark.parametrize("way", WAYS)
def test_fastapi_loses_none_either(shared_servers: Any, way: str) -> None:
    assert_nothing_is_lost(served("uvicorn", shared_servers, "polling_fastapi"), way)


@pytest.mark.parametrize(
    ("kind", "way"),
    # uvicorn's deprecated implementation never gets as far as the disconnect within no time, as with FastAPI.
    [(kind, way) for kind in KINDS for way in WAYS if (kind, way) != ("uvicorn --ws websockets", "timeout")],
)
def test_polling_ends_when_the_client_has_left(shared_servers: Any, kind: str, way: str) -> None:
    """`wait_for` with zero never begins to receive, so with FastAPI that loop never ends."""
    running = served(kind, shared_servers, "polling")
    with polling(running, f"/forever/{way}"):
        pass
    wait_closed(running, "/ended")
