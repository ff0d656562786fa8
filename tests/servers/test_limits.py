"""Limits, and monitoring of endpoints that are not receiving, on both servers with real clients."""

from __future__ import annotations

import pytest
import websockets

from tests.servers.client import Raw, open_socket
from tests.servers.conftest import Running, Server
from tests.servers.test_specification import refusal

pytestmark = pytest.mark.servers

APP = "tests.servers.limited:app"
SETTINGS = "tests.servers.limited_settings"


@pytest.fixture
def running(server: Server) -> Running:
    return server.shared(APP, settings=SETTINGS)


def closed(running: Running, path: str, *texts: str) -> tuple[int, str]:
    """The code and reason with which the server closes after these messages."""
    with open_socket(running, path) as client:
        for text in texts:
            client.send(text)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            while True:
                client.recv(timeout=10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def ended(running: Running) -> str:
    with open_socket(running, "/ended") as client:
        return str(client.recv(timeout=10))


def test_a_sender_whose_client_has_reset_does_not_hold_the_process(running: Running) -> None:
    """uvicorn accepts messages without waiting, so sending does not show that the client has left."""
    for _ in range(5):
        with Raw(running, "/flood").accepted() as client:
            client.exactly(64 * 1024)
            client.reset()
        assert ended(running) == "/flood told"


def test_limits_close_with_their_codes(running: Running) -> None:
    assert closed(running, "/size", "x" * 1000, "x" * 1001) == (1009, "message too big")
    assert ended(running) == "/size 1009 message too big"
    assert closed(running, "/rate", *"12345") == (4429, "too many messages")
    assert ended(running) == "/rate 4429 too many messages"
    assert closed(running, "/idle") == (4408, "idle")
    assert ended(running) == "/idle 4408 idle"
    assert closed(running, "/age", "x") == (4408, "max age")
    assert ended(running) == "/age 4408 max age"
    assert "Traceback" not in running.logs()


def test_connections_over_the_cap_are_refused_before_accept(server: Server) -> None:
    running = server.start(APP, settings=SETTINGS)  # the test does not check how these connections end
    for path, status in (("/two", 503), ("/address", 429)):
        with open_socket(running, path), open_socket(running, path):
            assert refusal(running.url(path))[0] == status
    assert "Traceback" not in running.logs()


def test_client_with_many_ipv6_addresses_counts_once(server: Server) -> None:
    running = server.start(APP, "--proxy-headers", settings=SETTINGS)

    def open_from(address: str) -> Raw:
        return Raw(running, "/address", {"X-Forwarded-For": address})

    with open_from("2001:db8::1").accepted(), open_from("2001:db8::2").accepted():
        with open_from("2001:db8::3") as third, open_from("2001:db8:0:1::1").accepted():
            assert third.answer().startswith(b"HTTP/1.1 429 ")


def test_handshake_that_is_not_answered_is_refused(running: Running) -> None:
    with Raw(running, "/never") as client:
        assert client.answer().startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in running.logs()


@pytest.mark.parametrize("unread", [0, 100])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_endpoint_that_does_not_receive_sees_its_end(running: Running, how: str, unread: int) -> None:
    for path, outcome in (("/sleep", "/sleep cancelled"), ("/tick", "/tick told")):
        client = Raw(running, path).accepted()
        for _ in range(unread):
            client.send(1, b"nobody reads this")
        if how == "close":
            client.send(8, b"\x03\xe8")
            client.socket.close()
        else:
            client.reset()
        assert ended(running) == outcome
    assert "Traceback" not in running.logs()
