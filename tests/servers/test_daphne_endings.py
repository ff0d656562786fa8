"""daphne cancels applications that do not notice that their client has left, and cancels them once."""

from __future__ import annotations

import select
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.servers.client import KEY, Raw, event, frame, open_socket
from tests.servers.conftest import Running, Server, free_port, has_ended
from tests.servers.tls import certificate, client_context

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.teardowns:app"
AT_ONCE = ("--application-close-timeout", "0")
KILLED = "took too long to shut down and was killed"


def told(running: Running, name: str) -> list[str]:
    """The events that the application of this name has recorded."""
    events = (line for line in running.logs().splitlines() if line.startswith(f"EVENT {name}"))
    return [line.removeprefix(f"EVENT {name} ").strip() for line in events]


def test_daphne_waits_for_a_cleanup_longer_than_its_timeout(daphne: Server) -> None:
    running = daphne.start(APP, *AT_ONCE)
    with open_socket(running, "/slow"):
        event(running, "slow accepted")
    event(running, "slow outer ended")
    assert told(running, "slow") == ["accepted", "disconnected 1000", "cleanup", "cleaned up", "outer ended"]
    assert KILLED not in running.logs()


def test_a_cleanup_that_hangs_is_ended_by_its_own_bound_and_not_by_daphne(daphne: Server) -> None:
    running = daphne.start(APP, *AT_ONCE, env={"FASTWS": '{"CLEANUP_TIMEOUT": 2}'})
    with open_socket(running, "/hangs"):
        event(running, "hangs accepted")
    event(running, "hangs outer ended")
    assert told(running, "hangs") == ["accepted", "disconnected 1000", "cleanup", "cancelled", "outer ended"]
    assert running.stop() == 0
    assert running.logs().count("TimeoutError: The cleanup of a dependency took longer than 2 s") == 1
    assert KILLED not in running.logs()


def test_an_endpoint_that_never_receives_is_ended_by_the_disconnect_grace(daphne: Server) -> None:
    running = daphne.start(APP, "--application-close-timeout", "2", env={"FASTWS": '{"DISCONNECT_GRACE": 4}'})
    with open_socket(running, "/ignore"):
        event(running, "ignore accepted")
    event(running, "ignore outer ended")
    assert told(running, "ignore") == ["accepted", "told to end", "cleanup", "cleaned up", "outer ended"]
    assert KILLED not in running.logs()


def test_an_application_that_does_not_notice_is_cancelled_once(daphne: Server) -> None:
    running = daphne.start(APP, *AT_ONCE)
    with open_socket(running, "/long_finally"):
        event(running, "long_finally accepted")
    event(running, "long_finally cleaned up")
    assert told(running, "long_finally") == ["accepted", "cleanup", "cleaned up"]
    assert running.logs().count(KILLED) == 1


# A client that sends more than is received, and then leaves


def fill(peer: socket.socket, data: bytes) -> None:
    """Send until the server has not read anything for a second."""
    peer.setblocking(False)
    while select.select([], [peer], [], 1)[1]:
        try:
            peer.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            continue
    peer.setblocking(True)


def until_killed(running: Running) -> None:
    deadline = time.monotonic() + 18
    while KILLED not in running.logs():
        assert time.monotonic() < deadline, "a client that is paused was not noticed to have left"
        has_ended(running.process)


# Ordinary pings would detect it too, but the second one is sent only after forty seconds.


def test_a_paused_client_that_closes_is_noticed_soon(daphne: Server) -> None:
    running = daphne.start(APP, *AT_ONCE)
    client = Raw(running, "/deaf").accepted()
    fill(client.socket, frame(2, b"y" * 1000) * 66)
    client.socket.close()
    until_killed(running)


def test_a_paused_client_that_resets_is_noticed_soon(daphne: Server) -> None:
    running = daphne.start(APP, *AT_ONCE)
    client = Raw(running, "/deaf").accepted()
    fill(client.socket, frame(2, b"y" * 1000) * 66)
    client.reset()
    until_killed(running)


def test_what_a_paused_client_sent_before_it_left_can_still_be_received(daphne: Server) -> None:
    running = daphne.start(APP)
    with Raw(running, "/deaf").accepted() as client:
        client.socket.sendall(frame(2, b"y" * 1000) * 260 + frame(8, b"\x03\xe8"))
        client.socket.shutdown(socket.SHUT_WR)
        with open_socket(running, "/checks") as checks:  # by then, daphne has also checked its clients
            checks.recv(timeout=10)
        with open_socket(running, "/go"):
            pass
        assert event(running, "deaf") == "260 1000"
    assert KILLED not in running.logs()


def test_a_paused_client_that_leaves_over_tls_is_noticed(daphne: Server, tmp_path: Path) -> None:
    port, pem = free_port(), certificate(tmp_path)
    running = daphne.start(
        APP, *AT_ONCE, "--endpoint", f"ssl:port={port}:interface=127.0.0.1:privateKey={pem}"
    )
    context = client_context(pem)
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            client.sendall(HANDSHAKE)
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
            fill(client, frame(2, b"y" * 1000) * 16)
    until_killed(running)


HANDSHAKE = (
    b"GET /deaf HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
