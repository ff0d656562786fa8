"""The ends of connections that public FastAPI code takes for granted, here and with the real FastAPI."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers.client import Raw, open_socket, unique
from tests.servers.conftest import Running, Server, wait_for

pytestmark = pytest.mark.servers

LIBRARIES = {"daphne": "app", "uvicorn": "app", "fastapi": "oracle"}


@pytest.fixture(params=LIBRARIES)
def running(request: pytest.FixtureRequest, shared_servers: dict[tuple[str, ...], Running]) -> Running:
    server = "daphne" if request.param == "daphne" else "uvicorn"
    return Server(server, shared_servers).shared(f"tests.servers.ported:{LIBRARIES[request.param]}")


@pytest.fixture
def ours(server: Server) -> Running:
    return server.shared("tests.servers.ported:app")


def note(running: Running) -> str:
    """How the connection ended, as its endpoint saw it."""
    with open_socket(running, "/next") as client:
        return str(client.recv(timeout=15))


def test_close_after_the_disconnect(running: Running) -> None:
    with open_socket(running, "/closes") as client:
        client.close(4000)
    assert note(running) == "closed"


def test_every_task_that_receives_learns_of_the_disconnect(running: Running) -> None:
    with open_socket(running, "/two") as client:
        client.recv(timeout=15)
    assert note(running) == "WebSocketDisconnect WebSocketDisconnect"


def test_a_task_that_receives_while_another_closes(running: Running) -> None:
    """It does not wait for the client to answer, which may have lost its network."""
    with Raw(running, "/closed-by-another-task").accepted() as silent:
        assert note(running) == "WebSocketDisconnect 4408 idle"
        assert silent.close_frame() == (4408, "idle")


def test_a_task_that_sends_after_the_endpoint_has_returned(running: Running) -> None:
    with open_socket(running, "/orphan") as client:
        assert client.recv(timeout=15) == "tick"
        client.send("return")
        with pytest.raises(ConnectionClosed):
            while client.recv(timeout=15):
                pass
    assert note(running) == "WebSocketDisconnect 1006"


def test_a_connection_is_replaced(running: Running) -> None:
    name = unique()
    with open_socket(running, f"/replaces/{name}") as first:
        assert first.recv(timeout=15) == "yours"
        with open_socket(running, f"/replaces/{name}") as second:
            assert second.recv(timeout=15) == "yours"
            with pytest.raises(ConnectionClosed) as closed:
                first.recv(timeout=15)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4009, "replaced")
            assert note(running) == "4009 replaced"
    assert note(running).startswith("1000")


def test_a_text_that_is_none(ours: Running, server: Server) -> None:
    """The real FastAPI behaves as this library does on uvicorn, which sends nothing."""
    with Raw(ours, "/none").accepted() as client:
        if server.is_daphne:
            assert client.close_frame() == (1011, "")
        else:
            assert client.frame() == (1, b"after")


def test_a_connection_is_replaced_after_its_client_has_left(ours: Running) -> None:
    """FastAPI's `close()` raises here, which ends the new connection instead."""
    name = unique()
    with open_socket(ours, f"/replaces/{name}") as first:
        first.recv(timeout=15)
    assert note(ours).startswith("1000")
    with open_socket(ours, f"/replaces/{name}") as second:
        assert second.recv(timeout=15) == "yours"
    assert note(ours).startswith("1000")


def test_a_message_to_a_member_that_has_left_is_an_error_of_the_sender(ours: Running) -> None:
    name = unique()
    with open_socket(ours, f"/replaces/{name}") as member:
        member.recv(timeout=15)
    assert note(ours).startswith("1000")
    with Raw(ours, f"/sends-to/{name}").accepted() as sender:
        assert sender.close_frame() == (1011, "")
    wait_for(lambda: "WebSocketDisconnect" in ours.logs())
    assert "Exception in WebSocket /sends-to/{name}" in ours.logs()
