"""Events of sockets in sentry-sdk, with a local transport, on real servers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from tests.servers.client import Raw
from tests.servers.conftest import Running, Server, wait_for

pytestmark = pytest.mark.servers

SITE = "tests.servers.reported:application"
SECRETS = ("c00kie-secret", "qu3ry-secret", "t0ken-secret")
HEADERS = {
    "Origin": "http://testserver",
    "Cookie": "sessionid=c00kie-secret",
    "Authorization": "Bearer t0ken-secret",
}


def items(running: Running) -> list[Any]:
    """The type and the content of everything that was sent."""
    lines = re.findall(r"^ENVELOPE (.+)$", running.logs(), re.M)
    return [item for line in lines for item in json.loads(line)]


def events(running: Running) -> list[dict[str, Any]]:
    return [content for kind, content in items(running) if kind == "event"]


def open_room(running: Running, room: str) -> ClientConnection:
    url = running.url(f"/rooms/{room}?token=qu3ry-secret")
    return connect(url, additional_headers=HEADERS, proxy=None, compression=None)


def code_of(client: ClientConnection) -> int:
    with pytest.raises(websockets.ConnectionClosed) as caught:
        client.recv(timeout=20)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def status_of(running: Running, path: str) -> int:
    """The status of a handshake that is refused."""
    with Raw(running, f"{path}?token=qu3ry-secret", headers=HEADERS) as client:
        return int(client.answer().split()[1])


def test_errors_on_a_server(server: Server) -> None:
    running = server.start(SITE)
    with open_room(running, "a") as a, open_room(running, "b") as b:
        for client in (a, b):
            client.send("go")
        assert [code_of(client) for client in (a, b)] == [1011, 1011]
    wait_for(lambda: len(events(running)) >= 2)
    found = events(running)
    for event in found:
        [value] = event["exception"]["values"]
        assert value["mechanism"] == {"type": "fastws", "handled": False}
        assert (value["type"], event["tags"]["room"]) == ("ZeroDivisionError", value["value"])
        assert (event["transaction"], event["transaction_info"]) == ("/rooms/{room}", {"source": "route"})
        assert event["tags"]["route"] == "/rooms/{room}"
        assert event["contexts"]["websocket"]["messages_in"] == 1
        assert not event.get("user", {}).get("id")
    assert {event["tags"]["room"] for event in found} == {"a", "b"}
    assert len({event["tags"]["connection_id"] for event in found}) == 2

    assert status_of(running, "/refused") == 500
    wait_for(lambda: len(events(running)) >= 3)
    assert events(running)[2]["exception"]["values"][0]["type"] == "LookupError"
    assert events(running)[2]["transaction"] == "/refused"

    assert status_of(running, "/silent") == 403
    with connect(running.url("/well"), proxy=None, compression=None) as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
    running.signal()
    running.wait()
    assert len(events(running)) == 3, events(running)[3:]
    assert {kind for kind, _ in items(running)} == {"event"}  # a socket is no transaction
    sent = json.dumps(items(running))
    assert not [secret for secret in SECRETS if secret in sent]
