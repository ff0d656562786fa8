"""A loop that swallows exceptions delays neither other clients nor the server's shutdown."""

from __future__ import annotations

import time

import pytest

from tests.servers.client import Raw, open_socket
from tests.servers.conftest import Running, Server
from tests.servers.swallowing import USES

pytestmark = pytest.mark.servers

APP = "tests.servers.swallowing:app"
GRACE = {
    "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings",
    "SETTINGS": '{"FASTWS": {"DISCONNECT_GRACE": 1, "HANDSHAKE_TIMEOUT": 1}}',
}


def answers(running: Running) -> None:
    for _ in range(3):
        with open_socket(running, "/echo", open_timeout=20) as socket:
            socket.send("hello")
            assert socket.recv(timeout=20) == "hello"


def logged(running: Running, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 30
    while running.logs().count(text) < times:
        assert time.monotonic() < deadline, running.logs()[-2000:]
        time.sleep(0.05)


def test_client_that_has_left(server: Server) -> None:
    running = server.start(APP, env=GRACE)
    for use in USES:
        Raw(running, f"/after/{use}").accepted().reset()
    answers(running)
    ended = set(USES) - {"no_text", "unserializable"}
    for use in ended:
        logged(running, f"CANCELLED {use}")
    assert running.logs().count("/after/{use}: the endpoint keeps using a closed socket") >= len(ended)
    assert "Traceback" not in running.logs()
    answers(running)
    running.signal()
    assert running.wait() in (0, -15)


def test_before_accept(server: Server) -> None:
    running = server.start(APP, env=GRACE)
    clients = [Raw(running, f"/before/{use}") for use in USES if use not in ("receive", "accept", "close")]
    answers(running)
    assert all(b" 50" in client.answer() or b" 403" in client.answer() for client in clients)
    for client in clients:
        client.socket.close()
    answers(running)
    running.signal()
    assert running.wait() in (0, -15)


def test_endpoint_that_swallows_its_cancellation_too(server: Server) -> None:
    running = server.start(APP, env=GRACE)
    Raw(running, "/everything").accepted().reset()
    logged(running, "keeps using a closed socket")
    answers(running)
