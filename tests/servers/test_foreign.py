"""Exceptions of FastAPI and Starlette on the wire: the client sees the same as for this library's own."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.servers.client import open_socket
from tests.servers.conftest import Server

pytestmark = pytest.mark.servers

APP = "tests.servers.foreign:app"


def test_refusal_by_a_library(server: Server) -> None:
    running = server.shared(APP)
    with pytest.raises(InvalidStatus) as caught:
        open_socket(running, "/dependency")
    response = caught.value.response
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert response.body == b'{"detail":"who?"}'
    with open_socket(running, "/dependency?token=secret") as client:
        assert client.recv(timeout=10) == "anna"


def test_websocket_exception_in_a_thread_before_accept(server: Server) -> None:
    with pytest.raises(InvalidStatus) as caught:
        open_socket(server.shared(APP), "/thread")
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [("/http", 4404, "no such room"), ("/websocket", 4008, "slow down"), ("/disconnect", 1000, "")],
)
def test_close_by_a_library(server: Server, path: str, code: int, reason: str) -> None:
    with open_socket(server.shared(APP), path) as client, pytest.raises(ConnectionClosed):
        client.recv(timeout=10)
    assert (client.close_code, client.close_reason) == (code, reason)


def test_none_of_it_is_logged_as_an_error(server: Server) -> None:
    running = server.start(APP)
    for path in ("/dependency", "/thread"):
        with pytest.raises(InvalidStatus):
            open_socket(running, path)
    for path in ("/http", "/websocket", "/disconnect", "/mounted/echo?token=secret"):
        with open_socket(running, path):
            pass
    running.stop()
    assert "Traceback" not in running.logs()


def test_mounted_application_of_fastapi(server: Server) -> None:
    running = server.shared(APP)
    with open_socket(running, "/mounted/echo?token=secret") as client:
        assert client.recv(timeout=10) == "anna"
    with pytest.raises(InvalidStatus) as caught:
        open_socket(running, "/mounted/echo")
    assert caught.value.response.status_code == 401
