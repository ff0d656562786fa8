"""Back-pressure: if one side does not read, only the other side of the same connection waits."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

from fastws_compat.daphne.fragments import MAX_FRAGMENTS
from tests.servers.client import Raw, event, frame, open_socket, unique
from tests.servers.conftest import UNMEASURED, Running, Server, has_ended

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.apps:app"
MIB = 1024 * 1024


def memory(running: Running) -> int:
    with open_socket(running, "/memory") as client:
        return int(client.recv(timeout=10))


def test_send_waits_for_a_client_that_does_not_read(server: Server) -> None:
    running = server.start(APP)
    before = memory(running)
    with Raw(running, "/flood").accepted() as client:
        event(running, "flood started")
        with open_socket(running, "/echo") as other:
            for _ in range(50):
                other.send("?")
                other.recv(timeout=10)
        assert memory(running) - before < 8 * MIB
        client.reset()
    # The size of the kernel's buffers on both sides.
    assert int(event(running, "flood")) < 16 * MIB


def test_send_goes_on_when_the_client_reads_again(daphne: Server) -> None:
    running = daphne.start(APP)
    with Raw(running, "/flood").accepted() as client:
        event(running, "flood started")
        for _ in range(500):
            assert client.frame() == (2, b"x" * 65536)


def test_a_fast_reader_does_not_starve_the_others(daphne: Server) -> None:
    running = daphne.start(APP)
    with Raw(running, "/flood").accepted() as client, open_socket(running, "/echo") as other:
        for _ in range(20):
            for _ in range(20):
                client.frame()
            other.send("?")
            other.recv(timeout=10)


def fill(client: Raw, data: bytes) -> int:
    """Send until no progress is made for a second; return the number of bytes sent."""
    sent = 0
    client.socket.settimeout(1)
    try:
        while sent < 64 * MIB:
            sent += client.socket.send(data)
    except TimeoutError:
        pass
    client.socket.settimeout(10)
    return sent


@pytest.mark.parametrize("size", [10, 65_000])
def test_a_client_that_floods_is_paused_and_loses_nothing(daphne: Server, size: int) -> None:
    running = daphne.start(APP)
    before = memory(running)
    message = frame(2, b"y" * size)
    with Raw(running, "/deaf").accepted() as client:
        block = message * (65_536 // len(message) + 1)
        sent = fill(client, block)
        assert sent < 32 * MIB
        assert memory(running) - before < 2 * MIB
        with open_socket(running, "/go"):
            pass
        client.socket.sendall(block[sent % len(block) :])
        client.send(8, b"\x03\xe8")
        blocks = sent // len(block) + 1
        assert event(running, "deaf") == f"{blocks * (len(block) // len(message))} 1000"


def test_a_paused_client_survives_the_ping_timeout(daphne: Server) -> None:
    running = daphne.start(APP, "--ping-interval", "1", "--ping-timeout", "1")
    block = frame(2, b"y" * 1000) * 66
    with Raw(running, "/deaf").accepted() as client:
        sent = fill(client, block)
        # Two rounds of pings are sent and not answered; daphne checks them every two seconds.
        assert client.frame()[0] == 9
        assert client.frame()[0] == 9
        with open_socket(running, "/go"):
            pass
        client.socket.sendall(block[sent % len(block) :])
        client.send(8, b"\x03\xe8")
        assert event(running, "deaf").endswith(" 1000")


def test_a_paused_client_that_is_gone_is_noticed(daphne: Server) -> None:
    running = daphne.start(
        APP, "--ping-interval", "1", "--ping-timeout", "1", "--application-close-timeout", "0"
    )
    client = Raw(running, "/deaf").accepted()
    fill(client, frame(2, b"y" * 1000) * 66)
    client.reset()
    # The application does not receive, so daphne cancels it once the connection is lost.
    deadline = time.monotonic() + 20
    while "took too long to shut down" not in running.logs():
        assert time.monotonic() < deadline
        has_ended(running.process)


def test_a_client_that_does_not_answer_pings_is_dropped(daphne: Server) -> None:
    running = daphne.start(APP, "--ping-interval", "1", "--ping-timeout", "1")
    with Raw(running, "/echo").accepted() as client:
        assert client.frame()[0] == 9
        with pytest.raises(ConnectionError):
            client.rest()
    assert event(running, "echo") == "1006"


def test_pings_of_a_client_that_does_not_read_do_not_pile_up(daphne: Server) -> None:
    running = daphne.start(APP, env=UNMEASURED)
    before = memory(running)
    with Raw(running, "/echo").accepted() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(2)
        pings = frame(9, b"p" * 125) * 500
        try:
            for _ in range(800):
                client.socket.sendall(pings)
        except TimeoutError:
            pass
        assert memory(running) - before < 4 * MIB


EMPTY = frame(0, first=0)
PING = frame(9, b"p" * 125)


@pytest.mark.parametrize(
    "unit", [EMPTY, EMPTY + PING, frame(0, b"x", first=0)], ids=["empty", "with pings", "one byte each"]
)
def test_a_message_that_never_ends_is_ended(daphne: Server, unit: bytes) -> None:
    running, name = daphne.start(APP, env=UNMEASURED), unique()
    before = memory(running)
    with Raw(running, f"/echo?as={name}").accepted() as client:
        client.socket.settimeout(60)
        client.socket.sendall(frame(1, b"a", first=1))
        block, sent = unit * 500, 0
        reader = threading.Thread(target=client.ended)
        reader.start()
        with suppress(ConnectionError):
            while sent < 200_000 and reader.is_alive():
                client.socket.sendall(block)
                sent += 500
                if sent == MAX_FRAGMENTS // 1000 * 1000 - 1000:
                    assert memory(running) - before < 2 * MIB
        reader.join(60)
        reason = b"a message of too many fragments"
        assert client.data.endswith(b"\x88" + bytes([2 + len(reason)]) + b"\x03\xf1" + reason)
        assert memory(running) - before < 2 * MIB
    assert event(running, name) == "1009 a message of too many fragments"
    assert running.logs().count("a message of more than 131072 fragments") == 1
    assert "Traceback" not in running.logs()
